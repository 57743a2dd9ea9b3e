import { LmdbEnvironment } from './lmdb-environment.ts'
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
  readonly #environment: LmdbEnvironment

  private constructor(environment: LmdbEnvironment) {
    this.#environment = environment
  }

  /** Opens or creates the store in `dir` (made with mode 0700; a local disk, LMDB maps it). Rejects with StoreUnavailable. */
  static async open(dir: string): Promise<LmdbSessionStore> {
    return new LmdbSessionStore(await LmdbEnvironment.open(dir))
  }

  async get(userId: string): Promise<SessionRecord | undefined> {
    assertUserId(userId)
    const text = this.#environment.read((db) => db.get(userId))
    return text === undefined ? undefined : decodeSessionRecord(userId, text)
  }

  async put(record: SessionRecord): Promise<void> {
    const text = encodeSessionRecord(record)
    await this.#environment.write((db) => db.put(record.userId, text))
  }

  async ensure(record: SessionRecord): Promise<SessionRecord> {
    const { userId } = record
    const text = encodeSessionRecord(record)
    const winner = await this.#environment.write((db) =>
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
    const entries = this.#environment.read((db) => [...db.getRange(range)])
    const records = entries.slice(0, limit).map(({ key, value }) => decodeSessionRecord(key, value))
    const last = records.at(-1)
    return entries.length > limit && last !== undefined ? { records, nextCursor: last.userId } : { records }
  }

  async ping(): Promise<void> {
    this.#environment.read((db) => db.getStats())
  }

  close(): Promise<void> {
    return this.#environment.close()
  }
}
