import type { Redis } from 'ioredis'
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
import { replyOf } from './redis-reply.ts'

const PUT_SCRIPT = `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])`

const DELETE_SCRIPT = `
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])`

const LIST_SCRIPT = `
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2])) do
  local text = redis.call('HGET', KEYS[1], id)
  if text then found[#found + 1] = { id, text } end
end
return found`

/** The key of the hash that holds a collection's documents by id. */
export function documentsKey(collection: Collection): string {
  return `cc:doc:${collection}`
}

/** The key of the sorted set of a collection's ids, all with score 0: a hash has no order to find a prefix in. */
export function documentIdsKey(collection: Collection): string {
  return `${documentsKey(collection)}:ids`
}

/**
 * Documents in Redis (6 or newer, one node: a document and its id change in one script). Redis must not evict keys
 * without an expiry (`noeviction` or `volatile-*`): what it evicts is gone.
 * Takes a connected client and leaves it open: whoever made it closes it.
 */
export class RedisDocumentStore implements DocumentStore {
  readonly name = 'redis'
  readonly #client: Redis

  constructor(client: Redis) {
    this.#client = client
  }

  async get(collection: Collection, id: string): Promise<JsonValue | undefined> {
    assertDocumentId(id)
    const text = await replyOf(this.#client.hget(documentsKey(collection), id))
    return text === null ? undefined : decodeDocument(collection, id, text)
  }

  async put(collection: Collection, id: string, value: JsonValue): Promise<void> {
    assertDocumentId(id)
    await this.#run(PUT_SCRIPT, collection, id, JSON.stringify(value))
  }

  async delete(collection: Collection, id: string): Promise<boolean> {
    assertDocumentId(id)
    return (await this.#run(DELETE_SCRIPT, collection, id)) === 1
  }

  async list(collection: Collection, prefix = ''): Promise<StoredDocument[]> {
    assertIdPrefix(prefix)
    const found = await this.#run(LIST_SCRIPT, collection, `[${prefix}`, `(${prefix}${AFTER_IDS}`)
    const entries = found as [id: string, text: string][]
    return entries.map(([id, text]) => ({ id, value: decodeDocument(collection, id, text) }))
  }

  async close(): Promise<void> {}

  #run(script: string, collection: Collection, ...args: string[]): Promise<unknown> {
    return replyOf(this.#client.eval(script, 2, documentsKey(collection), documentIdsKey(collection), ...args))
  }
}
