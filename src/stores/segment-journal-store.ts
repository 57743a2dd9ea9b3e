import { join, resolve } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { JournalUnknown, StoreUnavailable } from '../../errors.ts'
import { userKey } from '../isolation/user-directories.ts'
import type { JournalBounds } from '../journal/journal.ts'
import type { Run } from '../journal/run.ts'
import { JournalFiles } from './journal-files.ts'
import {
  checkStoredJournal,
  type JournalHead,
  type JournalStore,
  parseStored,
  runsAfter,
  type StoredJournal
} from './journal-store.ts'
import { LmdbEnvironment, storeFailure } from './lmdb-environment.ts'
import type { Segment } from './segment.ts'
import { assertUserId } from './session-store.ts'

interface HeadRecord extends JournalHead {
  /** No number up to here is given again; what the segments say may be more. */
  lastSeq: number
  /** When it was put. */
  atMs: number
}

/** Journals of which more than their directory is known; of others it is looked up again. */
const MAX_RESIDENT = 4_096
/** Heads looked at by `expire` in one turn of the event loop. */
const EXPIRE_SLICE = 64

/** Two stores of one process on one directory must not each have an idea of their own of what stands there. */
const residents = new Map<string, JournalFiles>()

/**
 * Journals under one directory, for one process at a time: heads in an embedded LMDB environment, runs in files of their
 * own for each user. Runs do not go through LMDB, since the pages of its map that were touched count as memory of the
 * process, and it copies and syncs what it is given.
 */
export class SegmentJournalStore implements JournalStore {
  readonly name = 'segments'
  readonly #dir: string
  readonly #heads: LmdbEnvironment
  readonly #operations = new Set<Promise<unknown>>()
  #closing: Promise<void> | undefined

  private constructor(dir: string, heads: LmdbEnvironment) {
    this.#dir = dir
    this.#heads = heads
  }

  /** Opens or creates the store in `dir` (made with mode 0700; a local disk, LMDB maps a file). Rejects with StoreUnavailable. */
  static async open(dir: string): Promise<SegmentJournalStore> {
    return new SegmentJournalStore(resolve(dir), await LmdbEnvironment.open(join(dir, 'heads')))
  }

  load(userId: string): Promise<StoredJournal | undefined> {
    return this.#exclusive(userId, async (files) => {
      const head = this.#head(userId)
      if (head === undefined) return undefined
      const segments = await files.segments()
      const { epoch, lineage, isOpen } = head
      const lastSeq = lastSeqOf(head, segments)
      return checkStoredJournal(userId, {
        epoch,
        lineage,
        isOpen,
        firstSeq: segments[0]?.firstSeq ?? lastSeq + 1,
        lastSeq
      })
    })
  }

  async putHead(userId: string, head: JournalHead & { lastSeq: number }): Promise<void> {
    await this.#exclusive(userId, async (files) => {
      const stored = this.#head(userId)
      // Files without a head are of a journal that was deleted, or whose head was lost.
      if (stored === undefined) await files.clear()
      if (!head.isOpen) await files.sync()
      await this.#putHead(userId, head, Math.max(stored?.lastSeq ?? 0, head.lastSeq))
      if (!head.isOpen) files.forget()
    })
  }

  async append(userId: string, runs: readonly Run[], bounds: JournalBounds): Promise<void> {
    await this.#exclusive(userId, async (files) => {
      const head = this.#head(userId)
      if (head === undefined) throw new JournalUnknown(userId)
      const fresh = runsAfter(lastSeqOf(head, await files.segments()), runs)
      if (fresh.length > 0) await files.append(fresh, bounds)
    })
  }

  read(userId: string, afterSeq: number, maxBytes: number): Promise<Run[]> {
    return this.#with(userId, (files) => files.read(afterSeq, maxBytes))
  }

  async expire(beforeMs: number): Promise<void> {
    let damage: unknown
    let userIds = this.#userIdsAfter('')
    while (userIds.length > 0) {
      for (const userId of userIds) {
        // One journal that is damaged does not keep the others for ever.
        await this.#expireOne(userId, beforeMs).catch((error: unknown) => {
          damage ??= error
        })
      }
      await nextTurn()
      userIds = this.#userIdsAfter(userIds.at(-1) as string)
    }
    if (damage !== undefined) throw damage
  }

  async delete(userId: string): Promise<void> {
    await this.#exclusive(userId, (files) => this.#remove(userId, files))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#operations)
    for (const [dir, files] of residents) if (dir.startsWith(`${this.#dir}/`) && files.isIdle) residents.delete(dir)
    await this.#heads.close()
  }

  async #expireOne(userId: string, beforeMs: number): Promise<void> {
    await this.#exclusive(userId, async (files) => {
      const head = this.#head(userId)
      if (head === undefined) return
      const segments = await files.segments()
      const firstKept = segments.findIndex(({ atMs }) => atMs >= beforeMs)
      const expired = firstKept < 0 ? segments.length : firstKept
      if (firstKept < 0 && !head.isOpen && head.atMs < beforeMs) return this.#remove(userId, files)
      // The last number must not go with the last segment.
      if (firstKept < 0 && expired > 0) await this.#putHead(userId, head, lastSeqOf(head, segments), head.atMs)
      await files.removeOldest(expired)
    })
  }

  /** The files first: what is left of them after a kill still has a head to be found by. */
  async #remove(userId: string, files: JournalFiles): Promise<void> {
    await files.clear()
    await this.#heads.write((db) => db.remove(userId))
  }

  /** Throws StoredJournalInvalid. */
  #head(userId: string): HeadRecord | undefined {
    const text = this.#heads.read((db) => db.get(userId))
    return text === undefined ? undefined : (parseStored(userId, text) as HeadRecord)
  }

  async #putHead(userId: string, { epoch, lineage, isOpen }: JournalHead, lastSeq: number, atMs = Date.now()) {
    const record: HeadRecord = { epoch, lineage, isOpen, lastSeq, atMs }
    await this.#heads.write((db) => db.put(userId, JSON.stringify(record)))
  }

  #userIdsAfter(userId: string): string[] {
    return this.#heads.read((db) => [...db.getKeys({ start: userId, exclusiveStart: true, limit: EXPIRE_SLICE })])
  }

  #exclusive<T>(userId: string, task: (files: JournalFiles) => Promise<T>): Promise<T> {
    return this.#with(userId, (files) => files.exclusive(() => task(files)))
  }

  async #with<T>(userId: string, operation: (files: JournalFiles) => Promise<T>): Promise<T> {
    assertUserId(userId)
    if (this.#closing !== undefined) throw new StoreUnavailable(`${this.#dir} is closed`)
    const done = operation(residentFiles(join(this.#dir, 'users', userKey(userId))))
    this.#operations.add(done)
    try {
      return await done
    } catch (error) {
      throw storeFailure(this.#dir, error)
    } finally {
      this.#operations.delete(done)
    }
  }
}

function lastSeqOf(head: HeadRecord, segments: readonly Segment[]): number {
  return Math.max(head.lastSeq, segments.at(-1)?.lastSeq ?? 0)
}

function residentFiles(dir: string): JournalFiles {
  const files = residents.get(dir) ?? new JournalFiles(dir)
  residents.delete(dir)
  residents.set(dir, files)
  if (residents.size > MAX_RESIDENT) forgetLongestUnused()
  return files
}

function forgetLongestUnused(): void {
  for (const [dir, files] of residents) {
    if (!files.isIdle) continue
    residents.delete(dir)
    return
  }
}
