import type { JsonValue } from '../codex/json.ts'

/** What kinds of small documents the gateway keeps. */
export type Collection = 'user-policies' | 'session-rules' | 'webhooks'

export interface StoredDocument {
  id: string
  value: JsonValue
}

/**
 * Small JSON documents by collection and id (1 to 256 characters of printable ASCII). Every method rejects with
 * StoreUnavailable when the store does not answer. Values are checked by whoever reads them.
 */
export interface DocumentStore {
  readonly name: 'lmdb' | 'redis'
  get(collection: Collection, id: string): Promise<JsonValue | undefined>
  /** Replaces the document; durable when resolved (Redis: as its own `appendfsync` says). */
  put(collection: Collection, id: string, value: JsonValue): Promise<void>
  /** Resolves with whether there was one. */
  delete(collection: Collection, id: string): Promise<boolean>
  /** All documents of a collection whose id starts with `prefix`, in ascending order of id. */
  list(collection: Collection, prefix?: string): Promise<StoredDocument[]>
  close(): Promise<void>
}
