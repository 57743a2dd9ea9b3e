import type { Redis } from 'ioredis'
import { replyOf } from './redis-reply.ts'
import {
  assertUserId,
  decodeSessionRecord,
  encodeSessionRecord,
  type SessionPage,
  type SessionRecord,
  type SessionStore
} from './session-store.ts'

/** Every user id that has a record, all with score 0: SCAN has no order and repeats itself, so it cannot page. */
const INDEX_KEY = 'cc:sessions'

const PUT_SCRIPT = `
redis.call('SET', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])`

const ENSURE_SCRIPT = `
local existing = redis.call('GET', KEYS[1])
if not existing then redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return existing or ARGV[2]`

/** The key of one user's session record. */
export function sessionKey(userId: string): string {
  return `cc:session:${userId}`
}

/**
 * Session records in Redis (6 or newer, one node: the record and the index change in one script).
 * Takes a connected client and leaves it open: whoever made it closes it.
 */
export class RedisSessionStore implements SessionStore {
  readonly name = 'redis'
  readonly #client: Redis

  constructor(client: Redis) {
    this.#client = client
  }

  async get(userId: string): Promise<SessionRecord | undefined> {
    assertUserId(userId)
    const text = await replyOf(this.#client.get(sessionKey(userId)))
    return text === null ? undefined : decodeSessionRecord(userId, text)
  }

  async put(record: SessionRecord): Promise<void> {
    await this.#run(PUT_SCRIPT, record)
  }

  async ensure(record: SessionRecord): Promise<SessionRecord> {
    const winner = await this.#run(ENSURE_SCRIPT, record)
    return decodeSessionRecord(record.userId, String(winner))
  }

  async list(options: { limit: number; cursor?: string | undefined }): Promise<SessionPage> {
    const { limit, cursor } = options
    if (cursor !== undefined) assertUserId(cursor)
    const from = cursor === undefined ? '-' : `(${cursor}`
    const found = await replyOf(this.#client.zrangebylex(INDEX_KEY, from, '+', 'LIMIT', 0, limit + 1))
    const userIds = found.slice(0, limit)
    const texts = userIds.length === 0 ? [] : await replyOf(this.#client.mget(userIds.map(sessionKey)))
    // A record that Redis evicted leaves its name in the index.
    const records = userIds.flatMap((userId, i) => {
      const text = texts[i]
      return text == null ? [] : [decodeSessionRecord(userId, text)]
    })
    const last = userIds.at(-1)
    return found.length > limit && last !== undefined ? { records, nextCursor: last } : { records }
  }

  async ping(): Promise<void> {
    await replyOf(this.#client.ping())
  }

  async close(): Promise<void> {}

  async #run(script: string, record: SessionRecord): Promise<unknown> {
    const text = encodeSessionRecord(record)
    return replyOf(this.#client.eval(script, 2, sessionKey(record.userId), INDEX_KEY, record.userId, text))
  }
}
