import { setTimeout as delay } from 'node:timers/promises'
import { StoreUnavailable } from '../../errors.ts'
import type { JsonValue } from '../json.ts'
import type { Collection, DocumentStore } from './document-store.ts'

const RETRY_INTERVAL_MS = 1_000
const CLOSE_TIMEOUT_MS = 2_000

interface Waiter {
  resolve(): void
  reject(error: Error): void
}

interface Change {
  /** undefined: the document goes. */
  value: JsonValue | undefined
  waiters: Waiter[]
}

/** The newest change of one document that is not yet on its way, and the end of all its writes. */
interface Slot {
  change: Change | undefined
  drained: Promise<void>
}

/**
 * Writes documents behind their caller's back: per document one write at a time, the newest value wins, and a store
 * that is away is tried again until it is back.
 */
export class DocumentWriter {
  readonly #documents: DocumentStore
  readonly #onFailure: (error: Error) => void
  readonly #slots = new Map<string, Slot>()
  readonly #closing = new AbortController()

  /** @param onFailure hears of every write that failed, also of those that are tried again. Must not throw. */
  constructor(documents: DocumentStore, onFailure: (error: Error) => void) {
    this.#documents = documents
    this.#onFailure = onFailure
  }

  get isWriting(): boolean {
    return this.#slots.size > 0
  }

  /**
   * Replaces the document, or removes it (undefined). Resolves when this or a newer value is durable; rejects when its
   * first attempt fails, and goes on trying. Nobody has to wait for it.
   */
  write(collection: Collection, id: string, value: JsonValue | undefined): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      this.#enqueue(collection, id, value, { resolve, reject })
    })
    // A caller that does not wait must not end the process by an unhandled rejection.
    written.catch(() => {})
    return written
  }

  /** One last attempt for what is not written yet, within a bound. */
  async close(): Promise<void> {
    this.#closing.abort()
    if (this.#slots.size === 0) return
    const bound = new AbortController()
    const drained = Promise.all([...this.#slots.values()].map((slot) => slot.drained))
    await Promise.race([drained, delay(CLOSE_TIMEOUT_MS, undefined, { signal: bound.signal }).catch(() => {})])
    bound.abort()
  }

  #enqueue(collection: Collection, id: string, value: JsonValue | undefined, waiter: Waiter): void {
    const key = `${collection} ${id}`
    const known = this.#slots.get(key)
    if (known) {
      known.change = { value, waiters: [...(known.change?.waiters ?? []), waiter] }
      return
    }
    const slot: Slot = { change: { value, waiters: [waiter] }, drained: Promise.resolve() }
    this.#slots.set(key, slot)
    slot.drained = this.#drain(slot, collection, id).finally(() => this.#slots.delete(key))
  }

  async #drain(slot: Slot, collection: Collection, id: string): Promise<void> {
    while (slot.change) {
      const { value, waiters } = slot.change
      slot.change = undefined
      try {
        if (value === undefined) await this.#documents.delete(collection, id)
        else await this.#documents.put(collection, id, value)
        for (const waiter of waiters) waiter.resolve()
      } catch (error) {
        this.#onFailure(error as Error)
        for (const waiter of waiters) waiter.reject(error as Error)
        if (!(error instanceof StoreUnavailable)) continue
        if (this.#closing.signal.aborted) return
        slot.change ??= { value, waiters: [] }
        await delay(RETRY_INTERVAL_MS, undefined, { signal: this.#closing.signal }).catch(() => {})
      }
    }
  }
}
