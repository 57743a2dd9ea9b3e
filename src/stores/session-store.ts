import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { InvalidUserId, StoreRecordInvalid } from '../../errors.ts'
import { IdSchema, UserIdSchema } from '../../schemas/common.ts'

/** What outlives the gateway about one user's session. Times are milliseconds since the epoch. */
export interface SessionRecord extends Static<typeof SessionRecordSchema> {}

export const SessionRecordSchema = Type.Object({
  userId: UserIdSchema,
  sessionId: IdSchema,
  createdAtMs: Type.Number({ minimum: 0 }),
  lastActiveAtMs: Type.Number({ minimum: 0 })
})

export interface SessionPage {
  /** In ascending byte order of the user id. */
  records: SessionRecord[]
  /** Present while more may follow; opaque to callers. */
  nextCursor?: string
}

/**
 * Session records by user id. Every method rejects with StoreUnavailable when the store does not answer, with
 * StoreRecordInvalid when what it holds is not a session record, and with InvalidUserId for an id that is none.
 */
export interface SessionStore {
  readonly name: 'lmdb' | 'redis'
  get(userId: string): Promise<SessionRecord | undefined>
  /** Replaces the record of `record.userId`; durable when resolved (Redis: as its own `appendfsync` says). */
  put(record: SessionRecord): Promise<void>
  /** Stores the record unless the user has one, in one step across gateways; resolves with the one that stands. */
  ensure(record: SessionRecord): Promise<SessionRecord>
  /** Up to `limit` records (a whole number, at least 1) after `cursor`. */
  list(options: { limit: number; cursor?: string | undefined }): Promise<SessionPage>
  ping(): Promise<void>
  close(): Promise<void>
}

const recordCheck = Compile(SessionRecordSchema)
const userIdCheck = Compile(UserIdSchema)

/** Throws InvalidUserId. LMDB refuses long keys only after the write was queued, so ids are checked before. */
export function assertUserId(userId: string): void {
  if (!userIdCheck.Check(userId)) throw new InvalidUserId('')
}

/** The stored text of a record; throws InvalidUserId or StoreRecordInvalid rather than store what cannot be read back. */
export function encodeSessionRecord(record: SessionRecord): string {
  const { userId, sessionId, createdAtMs, lastActiveAtMs } = record
  assertUserId(userId)
  if (!recordCheck.Check(record)) throw new StoreRecordInvalid(userId, reasonAgainst(record))
  return JSON.stringify({ userId, sessionId, createdAtMs, lastActiveAtMs })
}

/** Reads stored text back; throws StoreRecordInvalid when it is not this user's record. */
export function decodeSessionRecord(userId: string, text: string): SessionRecord {
  const value = parseJson(userId, text)
  if (!recordCheck.Check(value)) throw new StoreRecordInvalid(userId, reasonAgainst(value))
  if (value.userId !== userId) throw new StoreRecordInvalid(userId, 'it names another user')
  return value
}

function parseJson(userId: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new StoreRecordInvalid(userId, 'it is not JSON')
  }
}

function reasonAgainst(value: unknown): string {
  const [first] = recordCheck.Errors(value)
  return first === undefined ? 'it does not fit its schema' : `${first.instancePath || 'it'} ${first.message}`
}
