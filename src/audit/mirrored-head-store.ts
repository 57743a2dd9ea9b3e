import { asObject, type JsonValue } from '../json.ts'
import type { DocumentStore } from '../stores/document-store.ts'
import type { HeadStore } from './head-store.ts'
import type { Head } from './record.ts'

/** The head in the gateway's store: with Redis, out of reach of whoever can write the log's directory. */
export class DocumentHeadStore implements HeadStore {
  readonly #documents: DocumentStore
  readonly #id: string

  /** @param id names this log among the logs of other gateways on the same store */
  constructor(documents: DocumentStore, id: string) {
    this.#documents = documents
    this.#id = id
  }

  async get(): Promise<Head | undefined> {
    const { seq, hash } = asObject(await this.#documents.get('audit-heads', this.#id))
    return typeof seq === 'number' && typeof hash === 'string' ? { seq, hash } : undefined
  }

  async put({ seq, hash }: Head): Promise<void> {
    const value: JsonValue = { seq, hash }
    await this.#documents.put('audit-heads', this.#id, value)
  }
}

/** The head in several places; the highest counts, so that setting one back does not hide a cut log. */
export class MirroredHeadStore implements HeadStore {
  readonly #stores: readonly HeadStore[]

  constructor(stores: readonly HeadStore[]) {
    this.#stores = stores
  }

  async get(): Promise<Head | undefined> {
    const heads = await Promise.all(this.#stores.map((store) => store.get()))
    return heads.reduce((best, head) => (head && head.seq > (best?.seq ?? 0) ? head : best), undefined)
  }

  /** Rejects when any of the places failed; the others have it all the same. */
  async put(head: Head): Promise<void> {
    const results = await Promise.allSettled(this.#stores.map((store) => store.put(head)))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
}
