import { InvalidDocumentId, StoredDocumentInvalid } from '../../errors.ts'
import type { JsonValue } from '../json.ts'

/** What kinds of small documents the gateway keeps. */
export type Collection = 'audit-heads' | 'pending-approvals' | 'session-rules' | 'threads' | 'usage' | 'user-policies'

export interface StoredDocument {
  id: string
  value: JsonValue
}

/**
 * Small JSON documents by collection and id (1 to 256 characters of printable ASCII). Every method rejects with
 * StoreUnavailable when the store does not answer, with InvalidDocumentId for an id or prefix that none can be, and
 * with StoredDocumentInvalid when what it holds is not JSON. Values are checked by whoever reads them.
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

/** Above every character that an id may hold: `prefix + AFTER_IDS` ends the range of the ids that start with `prefix`. */
export const AFTER_IDS = '\x7f'

/** Throws InvalidDocumentId. LMDB refuses long keys only after the write was queued, so ids are checked before. */
export function assertDocumentId(id: string): void {
  if (!/^[\x20-\x7e]{1,256}$/.test(id)) throw new InvalidDocumentId()
}

/** Throws InvalidDocumentId for a prefix that no id can have; the empty one is that of every id. */
export function assertIdPrefix(prefix: string): void {
  if (prefix !== '') assertDocumentId(prefix)
}

/** Reads stored text back; throws StoredDocumentInvalid. */
export function decodeDocument(collection: Collection, id: string, text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue
  } catch {
    throw new StoredDocumentInvalid(id, collection)
  }
}
