import { mkdir } from 'node:fs/promises'
import { open, type RootDatabase } from 'lmdb'
import { StoreUnavailable } from '../../errors.ts'
import { assertLmdbFile } from './lmdb-file.ts'
import {
  assertUserId,
  decodeSessionRecord,
  encodeSessionRecord,
  type SessionPage,
  type SessionRecord,
  type SessionStore
} from './session-store.ts'

/** Session records in an embedded LMDB environment: several processes of one machine may share the directory. */
export class LmdbSessionStore implements SessionStore {
  readonly name = 'lmdb'
  readonly #db: RootDatabase<string, string>
  readonly #dir: string
  #closing: Promise<void> | undefined

  private constructor(db: RootDatabase<string, string>, dir: string) {
    this.#db = db
    this.#dir = dir
  }

  /** Opens or creates the store in `dir` (made with mode 0700; a local disk, LMDB maps it). Rejects with StoreUnavailable. */
  static async open(dir: string): Promise<LmdbSessionStore> {
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      await assertLmdbFile(dir)
      const db = open<string, string>({
        path: dir,
        encoding: 'string',
        // A dot in the name (".cloud-codex") would make lmdb take the directory for a file.
        noSubdir: false,
        // With overlapping syncs a write resolves before it is on the disk.
        overlappingSync: false
      })
      return new LmdbSessionStore(db, dir)
    } catch (error) {
      throw unavailable(dir, error)
    }
  }

  async get(userId: string): Promise<SessionRecord | undefined> {
    assertUserId(userId)
    const text = this.#attempt((db) => db.get(userId))
    return text === undefined ? undefined : decodeSessionRecord(userId, text)
  }

  async put(record: SessionRecord): Promise<void> {
    const text = encodeSessionRecord(record)
    await this.#write((db) => db.put(record.userId, text))
  }

  async ensure(record: SessionRecord): Promise<SessionRecord> {
    const { userId } = record
    const text = encodeSessionRecord(record)
    const winner = await this.#write((db) =>
      db.transaction(() => {
        const existing = db.get(userId)
        if (existing === undefined) db.putSync(userId, text)
        return existing ?? text
      })
    )
    return decodeSessionRecord(userId, winner)
  }

  async list(options: { limit: number; cursor?: string | undefined }): Promise<SessionPage> {
    const { limit, cursor } = options
    if (cursor !== undefined) assertUserId(cursor)
    const range = { limit: limit + 1, ...(cursor === undefined ? {} : { start: cursor, exclusiveStart: true }) }
    const entries = this.#attempt((db) => [...db.getRange(range)])
    const records = entries.slice(0, limit).map(({ key, value }) => decodeSessionRecord(key, value))
    const last = records.at(-1)
    return entries.length > limit && last !== undefined ? { records, nextCursor: last.userId } : { records }
  }

  async ping(): Promise<void> {
    this.#attempt((db) => db.getStats())
  }

  close(): Promise<void> {
    this.#closing ??= this.#db.close()
    return this.#closing
  }

  #attempt<T>(operation: (db: RootDatabase<string, string>) => T): T {
    // lmdb reads unmapped memory after a close: the check keeps a late caller from ending the process.
    if (this.#closing !== undefined) throw new StoreUnavailable(`${this.#dir} is closed`)
    try {
      return operation(this.#db)
    } catch (error) {
      throw unavailable(this.#dir, error)
    }
  }

  async #write<T>(operation: (db: RootDatabase<string, string>) => Promise<T>): Promise<T> {
    try {
      return await this.#attempt(operation)
    } catch (error) {
      throw unavailable(this.#dir, error)
    }
  }
}

function unavailable(dir: string, error: unknown): Error {
  if (error instanceof StoreUnavailable) return error
  return new StoreUnavailable(`${dir}: ${error instanceof Error ? error.message : String(error)}`)
}
