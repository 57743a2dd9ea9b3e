import type { Redis } from 'ioredis'
import { JournalUnknown } from '../../errors.ts'
import type { JournalBounds } from '../journal/journal.ts'
import type { Run } from '../journal/run.ts'
import {
  checkStoredJournal,
  type JournalHead,
  type JournalStore,
  parseStored,
  runsAfter,
  type StoredJournal
} from './journal-store.ts'
import { replyOf } from './redis-reply.ts'
import { assertUserId } from './session-store.ts'

type Argument = string | number | Buffer
type Script = (...args: Argument[]) => Promise<unknown>

/** In each script KEYS[1] is the head, KEYS[2] the runs. */
const SCRIPTS = {
  /** The head's fields, and whether there are runs: their key expires by itself, firstSeq in the head does not. */
  ccJournalLoad: `
local head = redis.call('HMGET', KEYS[1], 'epoch', 'lineage', 'isOpen', 'lastSeq', 'firstSeq')
if not head[1] then return nil end
head[6] = redis.call('EXISTS', KEYS[2])
return head`,

  /** ARGV: epoch, lineage, isOpen (0 or 1), lastSeq. While a gateway has the journal open, its head does not expire. */
  ccJournalPutHead: `
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'lineage', ARGV[2], 'isOpen', ARGV[3])
local stored = redis.call('HMGET', KEYS[1], 'lastSeq', 'maxAgeMs')
if not stored[1] or tonumber(ARGV[4]) > tonumber(stored[1]) then
  redis.call('HSET', KEYS[1], 'lastSeq', ARGV[4])
end
if ARGV[3] == '1' then
  redis.call('PERSIST', KEYS[1])
elseif stored[2] then
  redis.call('PEXPIRE', KEYS[1], stored[2])
end`,

  /**
   * ARGV: now, maxEvents, maxBytes, maxAgeMs, then firstSeq, lastSeq, atMs and data of each run. Answers 'unknown'
   * when there is no head, the stored lastSeq when it lies within a run (frames are cut by the client), or nothing.
   */
  ccJournalAppend: `
local head = redis.call('HMGET', KEYS[1], 'lastSeq', 'events', 'bytes')
if not head[1] then return 'unknown' end
local lastSeq = tonumber(head[1])
local at = 5
while ARGV[at] and tonumber(ARGV[at + 1]) <= lastSeq do at = at + 4 end
if not ARGV[at] then return nil end
if tonumber(ARGV[at]) <= lastSeq then return head[1] end

local events, bytes = tonumber(head[2] or 0), tonumber(head[3] or 0)
if redis.call('EXISTS', KEYS[2]) == 0 then events, bytes = 0, 0 end
local newest
while ARGV[at] do
  newest = ARGV[at + 1]
  redis.call('XADD', KEYS[2], newest .. '-0', 'firstSeq', ARGV[at], 'atMs', ARGV[at + 2], 'data', ARGV[at + 3])
  events = events + tonumber(newest) - tonumber(ARGV[at]) + 1
  bytes = bytes + #ARGV[at + 3]
  at = at + 4
end

local nowMs, maxEvents, maxBytes, maxAgeMs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local from, oldest = '-', nil
while true do
  oldest = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 1)[1]
  local id, fields = oldest[1], oldest[2]
  if id == newest .. '-0' then break end
  local held = tonumber(string.match(id, '^%d+')) - tonumber(fields[2]) + 1
  local isBeyond = events - held >= maxEvents or bytes - #fields[6] >= maxBytes or nowMs - tonumber(fields[4]) > maxAgeMs
  if not isBeyond then break end
  events, bytes, from = events - held, bytes - #fields[6], '(' .. id
end
if from ~= '-' then redis.call('XTRIM', KEYS[2], 'MINID', oldest[1]) end
-- Lua shows a large number with an exponent and 14 digits: counters are written by format.
redis.call('HSET', KEYS[1], 'lastSeq', newest, 'firstSeq', oldest[2][2], 'maxAgeMs', ARGV[4],
  'events', string.format('%.0f', events), 'bytes', string.format('%.0f', bytes))
redis.call('PEXPIRE', KEYS[2], ARGV[4])`,

  /** ARGV: the lowest lastSeq, maxBytes. Answers lastSeq, firstSeq, atMs and data of each run. */
  ccJournalRead: `
local found, total, from, maxBytes = {}, 0, ARGV[1] .. '-0', tonumber(ARGV[2])
while true do
  local entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 16)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    total = total + #fields[6]
    if #found > 0 and total > maxBytes then return found end
    found[#found + 1] = { string.match(entry[1], '^%d+'), fields[2], fields[4], fields[6] }
    from = '(' .. entry[1]
  end
  if #entries < 16 then return found end
end`
}

type Scripts = Record<keyof typeof SCRIPTS, Script> & { ccJournalReadBuffer: Script }

/** The key of the hash that is the head of a user's journal. The braces keep head and runs in one cluster slot. */
export function journalKey(userId: string): string {
  return `cc:journal:{${userId}}`
}

/** The key of the stream of a user's runs: each under the id `<lastSeq>-0`. */
export function journalRunsKey(userId: string): string {
  return `${journalKey(userId)}:runs`
}

/**
 * Journals in Redis (6.2 or newer). Runs expire `maxAgeMs` after the last append, and with them the head of a journal
 * that is closed. Redis must not evict keys without an expiry (`noeviction` or `volatile-*`).
 * Takes a connected client and leaves it open: whoever made it closes it.
 */
export class RedisJournalStore implements JournalStore {
  readonly name = 'redis'
  readonly #client: Redis & Scripts

  constructor(client: Redis) {
    for (const [name, lua] of Object.entries(SCRIPTS)) client.defineCommand(name, { numberOfKeys: 2, lua })
    this.#client = client as Redis & Scripts
  }

  async load(userId: string): Promise<StoredJournal | undefined> {
    const found = await replyOf(this.#client.ccJournalLoad(...keysOf(userId)))
    if (found === null) return undefined
    const [epoch, lineage, isOpen, last, first, hasRuns] = found as [string, string, string, string, string, number]
    const lastSeq = Number(last)
    return checkStoredJournal(userId, {
      epoch,
      lineage: parseStored(userId, lineage),
      isOpen: isOpen === '1',
      firstSeq: hasRuns === 1 ? Number(first) : lastSeq + 1,
      lastSeq
    })
  }

  async putHead(userId: string, head: JournalHead & { lastSeq: number }): Promise<void> {
    const { epoch, lineage, isOpen, lastSeq } = head
    const args = [epoch, JSON.stringify(lineage), isOpen ? 1 : 0, lastSeq]
    await replyOf(this.#client.ccJournalPutHead(...keysOf(userId), ...args))
  }

  async append(userId: string, runs: readonly Run[], bounds: JournalBounds): Promise<void> {
    const keys = keysOf(userId)
    const limits = [Date.now(), bounds.maxEvents, bounds.maxBytes, bounds.maxAgeMs]
    let fresh: readonly Run[] = runs
    while (fresh.length > 0) {
      const args = fresh.flatMap(({ firstSeq, lastSeq, atMs, frames }) => [firstSeq, lastSeq, atMs, frames])
      const refusal = await replyOf(this.#client.ccJournalAppend(...keys, ...limits, ...args))
      if (refusal === null) return
      if (refusal === 'unknown') throw new JournalUnknown(userId)
      fresh = runsAfter(Number(refusal), fresh)
    }
  }

  async read(userId: string, afterSeq: number, maxBytes: number): Promise<Run[]> {
    const found = await replyOf(this.#client.ccJournalReadBuffer(...keysOf(userId), afterSeq + 1, maxBytes))
    const entries = found as [lastSeq: Buffer, firstSeq: Buffer, atMs: Buffer, data: Buffer][]
    return entries.map(([lastSeq, firstSeq, atMs, frames]) => ({
      firstSeq: Number(firstSeq),
      lastSeq: Number(lastSeq),
      atMs: Number(atMs),
      frames
    }))
  }

  async expire(): Promise<void> {}

  async delete(userId: string): Promise<void> {
    await replyOf(this.#client.unlink(...keysOf(userId)))
  }

  async close(): Promise<void> {}
}

function keysOf(userId: string): [head: string, runs: string] {
  assertUserId(userId)
  return [journalKey(userId), journalRunsKey(userId)]
}
