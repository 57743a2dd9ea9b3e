import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Key, RootDatabase } from 'lmdb'
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
import { LmdbEnvironment } from './lmdb-environment.ts'
import { assertUserId } from './session-store.ts'

type Db = RootDatabase<Buffer, Key[]>

/** Events and bytes of the runs held, so that no trim has to walk them all; `atMs` is the time of the last change. */
interface HeadRecord extends JournalHead {
  lastSeq: number
  events: number
  bytes: number
  atMs: number
}

/** A head as it was read; not decoded, so that a damaged one can still be deleted. */
interface VersionedHead {
  text: string
  version: number
}

/** All about a run save its frames stands in its key: a trim or a search reads no frames. */
interface RunMeta {
  firstSeq: number
  lastSeq: number
  atMs: number
  bytes: number
}

const HEAD = 'head'
const RUN = 'run'
/** Heads looked at by `expire` in one turn of the event loop. */
const EXPIRE_SLICE = 64

/**
 * Journals in an embedded LMDB environment: several processes of one machine may share the directory. A change reads
 * the head and is queued on the condition that the head is still the same, so that the copying of frames happens on
 * LMDB's own thread and the event loop waits for nothing.
 */
export class LmdbJournalStore implements JournalStore {
  readonly name = 'lmdb'
  readonly #environment: LmdbEnvironment<Buffer, Key[]>

  private constructor(environment: LmdbEnvironment<Buffer, Key[]>) {
    this.#environment = environment
  }

  /** Opens or creates the store in `dir` (made with mode 0700; a local disk, LMDB maps it). Rejects with StoreUnavailable. */
  static async open(dir: string): Promise<LmdbJournalStore> {
    return new LmdbJournalStore(await LmdbEnvironment.openVersioned(dir))
  }

  async load(userId: string): Promise<StoredJournal | undefined> {
    assertUserId(userId)
    return this.#environment.read((db) => {
      const head = readHead(db, userId)
      if (head === undefined) return undefined
      const { epoch, lineage, isOpen, lastSeq } = recordOf(userId, head)
      const [oldest] = metasOf(db, userId)
      return checkStoredJournal(userId, { epoch, lineage, isOpen, firstSeq: oldest?.firstSeq ?? lastSeq + 1, lastSeq })
    })
  }

  async putHead(userId: string, head: JournalHead & { lastSeq: number }): Promise<void> {
    const { epoch, lineage, isOpen } = head
    await this.#change(userId, (db, stored) => {
      const { lastSeq = 0, events = 0, bytes = 0 } = stored === undefined ? {} : recordOf(userId, stored)
      const burnt = Math.max(lastSeq, head.lastSeq)
      const record = { epoch, lineage, isOpen, lastSeq: burnt, events, bytes, atMs: Date.now() }
      return writeIf(db, userId, stored, record, () => {})
    })
  }

  async append(userId: string, runs: readonly Run[], bounds: JournalBounds): Promise<void> {
    await this.#change(userId, (db, stored) => {
      if (stored === undefined) throw new JournalUnknown(userId)
      const before = recordOf(userId, stored)
      const fresh = runsAfter(before.lastSeq, runs)
      const last = fresh.at(-1)
      if (last === undefined) return Promise.resolve(true)

      const nowMs = Date.now()
      const added = fresh.map((run) => ({ ...metaOf(run), frames: run.frames }))
      const record = { ...before, lastSeq: last.lastSeq, atMs: nowMs }
      for (const meta of added) count(record, meta, 1)
      const trimmed = new Set(trim(record, concat(metasOf(db, userId), added), bounds, nowMs))
      return writeIf(db, userId, stored, record, () => {
        const kept = added.filter((meta) => !trimmed.delete(meta))
        for (const meta of trimmed) void db.remove(keyOf(userId, meta))
        for (const meta of kept) void db.put(keyOf(userId, meta), meta.frames)
      })
    })
  }

  async read(userId: string, afterSeq: number, maxBytes: number): Promise<Run[]> {
    assertUserId(userId)
    return this.#environment.read((db) => {
      const runs: Run[] = []
      let total = 0
      for (const meta of metasOf(db, userId, afterSeq + 1)) {
        const { firstSeq, lastSeq, atMs, bytes } = meta
        total += bytes
        if (runs.length > 0 && total > maxBytes) break
        const frames = db.get(keyOf(userId, meta))
        if (frames !== undefined) runs.push({ firstSeq, lastSeq, atMs, frames })
      }
      return runs
    })
  }

  async expire(beforeMs: number): Promise<void> {
    let damage: unknown
    let userIds = this.#environment.read((db) => userIdsAfter(db, ''))
    while (userIds.length > 0) {
      for (const userId of userIds) {
        // One journal that is damaged does not keep the others for ever.
        await this.#expireOne(userId, beforeMs).catch((error: unknown) => {
          damage ??= error
        })
      }
      await nextTurn()
      userIds = this.#environment.read((db) => userIdsAfter(db, userIds.at(-1) as string))
    }
    if (damage !== undefined) throw damage
  }

  async delete(userId: string): Promise<void> {
    await this.#change(userId, (db, stored) => {
      if (stored === undefined) return Promise.resolve(true)
      const metas = [...metasOf(db, userId)]
      return writeIf(db, userId, stored, undefined, () => {
        for (const meta of metas) void db.remove(keyOf(userId, meta))
      })
    })
  }

  close(): Promise<void> {
    return this.#environment.close()
  }

  async #expireOne(userId: string, beforeMs: number): Promise<void> {
    if (!this.#environment.read((db) => isExpired(db, userId, beforeMs))) return
    await this.#change(userId, (db, stored) => {
      if (stored === undefined) return Promise.resolve(true)
      const record = recordOf(userId, stored)
      const expired: RunMeta[] = []
      for (const meta of metasOf(db, userId)) {
        if (meta.atMs >= beforeMs) break
        expired.push(meta)
        count(record, meta, -1)
      }
      const isOver = !record.isOpen && record.events === 0 && record.atMs < beforeMs
      return writeIf(db, userId, stored, isOver ? undefined : record, () => {
        for (const meta of expired) void db.remove(keyOf(userId, meta))
      })
    })
  }

  /** Tries until no other writer came between: `attempt` resolves with whether it was written. */
  async #change(userId: string, attempt: (db: Db, stored: VersionedHead | undefined) => Promise<boolean>) {
    assertUserId(userId)
    while (!(await this.#environment.write((db) => attempt(db, readHead(db, userId))))) {}
  }
}

function readHead(db: Db, userId: string): VersionedHead | undefined {
  const entry = db.getEntry([HEAD, userId])
  if (entry === undefined) return undefined
  return { text: entry.value.toString(), version: entry.version ?? 0 }
}

/** Throws StoredJournalInvalid. */
function recordOf(userId: string, head: VersionedHead): HeadRecord {
  return parseStored(userId, head.text) as HeadRecord
}

/** Puts the head (or removes it) and what `others` queues, if the stored head is still `stored`; `others` must not throw. */
function writeIf(
  db: Db,
  userId: string,
  stored: VersionedHead | undefined,
  record: HeadRecord | undefined,
  others: () => void
): Promise<boolean> {
  const key = [HEAD, userId]
  // Not 1 for a new head: after a delete, a writer that still holds the old version 1 would take it for its own.
  const version = Math.max((stored?.version ?? 0) + 1, Date.now())
  const write = () => {
    others()
    if (record === undefined) void db.remove(key)
    else void db.put(key, Buffer.from(JSON.stringify(record)), version)
  }
  return stored === undefined ? db.ifNoExists(key, write) : db.ifVersion(key, stored.version, write)
}

function keyOf(userId: string, { lastSeq, firstSeq, atMs, bytes }: RunMeta): Key[] {
  return [RUN, userId, lastSeq, firstSeq, atMs, bytes]
}

function metaOf({ firstSeq, lastSeq, atMs, frames }: Run): RunMeta {
  return { firstSeq, lastSeq, atMs, bytes: frames.length }
}

/** The user's runs that end at or after `fromSeq`, oldest first. */
function* metasOf(db: Db, userId: string, fromSeq = 0): Generator<RunMeta> {
  const range = { start: [RUN, userId, fromSeq], end: [RUN, userId, Number.MAX_VALUE] }
  for (const key of db.getKeys(range)) {
    const [, , lastSeq, firstSeq, atMs, bytes] = key as [string, string, number, number, number, number]
    yield { lastSeq, firstSeq, atMs, bytes }
  }
}

function* concat(first: Iterable<RunMeta>, second: Iterable<RunMeta>): Generator<RunMeta> {
  yield* first
  yield* second
}

function count(record: HeadRecord, meta: RunMeta, sign: 1 | -1): void {
  record.events += sign * (meta.lastSeq - meta.firstSeq + 1)
  record.bytes += sign * meta.bytes
}

/** The oldest runs that are wholly beyond a bound; `record`, which counts all of them, counts them no more. */
function trim(record: HeadRecord, metas: Iterable<RunMeta>, bounds: JournalBounds, nowMs: number): RunMeta[] {
  const trimmed: RunMeta[] = []
  for (const meta of metas) {
    const isBeyond =
      record.events - (meta.lastSeq - meta.firstSeq + 1) >= bounds.maxEvents ||
      record.bytes - meta.bytes >= bounds.maxBytes ||
      nowMs - meta.atMs > bounds.maxAgeMs
    if (!isBeyond || meta.lastSeq === record.lastSeq) break
    trimmed.push(meta)
    count(record, meta, -1)
  }
  return trimmed
}

function userIdsAfter(db: Db, userId: string): string[] {
  const keys = db.getKeys({ start: [HEAD, userId], exclusiveStart: true, end: [RUN], limit: EXPIRE_SLICE })
  return [...keys].map((key) => String(key[1]))
}

function isExpired(db: Db, userId: string, beforeMs: number): boolean {
  const [oldest] = metasOf(db, userId)
  if (oldest !== undefined) return oldest.atMs < beforeMs
  const head = readHead(db, userId)
  if (head === undefined) return false
  const { isOpen, atMs } = recordOf(userId, head)
  return !isOpen && atMs < beforeMs
}
