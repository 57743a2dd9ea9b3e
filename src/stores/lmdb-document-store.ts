import type { JsonValue } from '../json.ts'
import {
  AFTER_IDS,
  assertDocumentId,
  assertIdPrefix,
  type Collection,
  type DocumentStore,
  decodeDocument,
  type StoredDocument
} from './document-store.ts'
import { LmdbEnvironment } from './lmdb-environment.ts'

/** Documents in an embedded LMDB environment: several processes of one machine may share the directory. */
export class LmdbDocumentStore implements DocumentStore {
  readonly name = 'lmdb'
  readonly #environment: LmdbEnvironment

  private constructor(environment: LmdbEnvironment) {
    this.#environment = environment
  }

  /** Opens or creates the store in `dir` (made with mode 0700; a local disk, LMDB maps it). Rejects with StoreUnavailable. */
  static async open(dir: string): Promise<LmdbDocumentStore> {
    return new LmdbDocumentStore(await LmdbEnvironment.open(dir))
  }

  async get(collection: Collection, id: string): Promise<JsonValue | undefined> {
    assertDocumentId(id)
    const text = this.#environment.read((db) => db.get(documentKey(collection, id)))
    return text === undefined ? undefined : decodeDocument(collection, id, text)
  }

  async put(collection: Collection, id: string, value: JsonValue): Promise<void> {
    assertDocumentId(id)
    const text = JSON.stringify(value)
    await this.#environment.write((db) => db.put(documentKey(collection, id), text))
  }

  async delete(collection: Collection, id: string): Promise<boolean> {
    assertDocumentId(id)
    const key = documentKey(collection, id)
    // lmdb's remove() resolves with true whether or not there was an entry.
    return this.#environment.write((db) =>
      db.transaction(() => {
        const existed = db.doesExist(key)
        if (existed) db.removeSync(key)
        return existed
      })
    )
  }

  async list(collection: Collection, prefix = ''): Promise<StoredDocument[]> {
    assertIdPrefix(prefix)
    const start = documentKey(collection, prefix)
    const entries = this.#environment.read((db) => [...db.getRange({ start, end: start + AFTER_IDS })])
    return entries.map(({ key, value }) => {
      const id = key.slice(documentKey(collection, '').length)
      return { id, value: decodeDocument(collection, id, value) }
    })
  }

  close(): Promise<void> {
    return this.#environment.close()
  }
}

function documentKey(collection: Collection, id: string): string {
  return `${collection}/${id}`
}
