import { mkdir, rm, truncate, unlink } from 'node:fs/promises'
import type { JournalBounds } from '../journal/journal.ts'
import type { Run } from '../journal/run.ts'
import { withFile } from './open-files.ts'
import { emptySegment, extended, listSegments, type Segment, surveySegment } from './segment.ts'
import { SegmentReader } from './segment-reader.ts'
import { encodeRecord, RecordKinds, recordOf, type SegmentRecord } from './segment-record.ts'

/** A segment takes this part of each bound: so much more than a bound may be kept. */
const SEGMENT_PART = 1 / 16
const MAX_SEGMENT_BYTES = 8 * 1024 * 1024

/**
 * The runs of one user's journal in a directory of append-only files. What it says of them is kept in memory until
 * {@link forget}, or until something fails: what is on the disk is then looked at again, and what a failed or killed
 * append left at the end of the newest file is cut off.
 */
export class JournalFiles {
  readonly #dir: string
  readonly #reader = new SegmentReader()
  #segments: readonly Segment[] | undefined
  #last: Promise<unknown> = Promise.resolve()
  #inFlight = 0

  constructor(dir: string) {
    this.#dir = dir
  }

  /** Nothing is done with it. */
  get isIdle(): boolean {
    return this.#inFlight === 0
  }

  /** Runs `task` when those before it have ended. All methods but {@link read} are for such tasks only. */
  async exclusive<T>(task: () => Promise<T>): Promise<T> {
    this.#inFlight++
    const done = this.#last.then(task)
    this.#last = done.catch(() => this.forget())
    try {
      return await done
    } finally {
      this.#inFlight--
    }
  }

  /** As JournalStore.read; beside appends and trims. */
  async read(afterSeq: number, maxBytes: number): Promise<Run[]> {
    this.#inFlight++
    try {
      const segments = this.#segments ?? (await this.exclusive(() => this.segments()))
      return await this.#reader.read(segments, afterSeq, maxBytes)
    } finally {
      this.#inFlight--
    }
  }

  async segments(): Promise<readonly Segment[]> {
    this.#segments ??= await this.#survey()
    return this.#segments
  }

  /** Runs in ascending order, newer than all that are there. */
  async append(runs: readonly Run[], bounds: JournalBounds): Promise<void> {
    const nowMs = Date.now()
    const records = runs.map(recordOf)
    const skipped = countBeyond(records, bounds, nowMs)
    const [kept, added] = [records.slice(skipped), runs.slice(skipped)]
    const segments = [...(await this.segments())]
    const newest = segments.at(-1)
    const base = newest && hasRoom(newest, kept, bounds) ? newest : this.#begin(kept[0] as SegmentRecord)
    if (base === newest) segments.pop()
    if (base.size === 0) await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    segments.push(await write(base, kept, added))
    const trimmed = countBeyond(segments, bounds, nowMs)
    this.#segments = segments
    await this.removeOldest(trimmed)
  }

  /** Removes so many of the oldest segments. */
  async removeOldest(count: number): Promise<void> {
    if (count === 0) return
    const segments = await this.segments()
    this.#segments = segments.slice(count)
    await Promise.all(segments.slice(0, count).map(({ path }) => rm(path, { force: true })))
  }

  /** Has on the disk what may still be with the kernel only. */
  async sync(): Promise<void> {
    const segments = await this.segments()
    const unsynced = segments.filter(({ isSynced }) => !isSynced)
    if (unsynced.length === 0) return
    for (const path of [...unsynced.map(({ path }) => path), this.#dir]) {
      await withFile(path, 'r', (file) => file.sync())
    }
    this.#segments = segments.map((segment) => ({ ...segment, isSynced: true }))
  }

  /** Removes everything. */
  async clear(): Promise<void> {
    this.forget()
    await rm(this.#dir, { recursive: true, force: true })
  }

  forget(): void {
    this.#segments = undefined
    this.#reader.clear()
  }

  #begin({ firstSeq, sinceMs }: SegmentRecord): Segment {
    return emptySegment(this.#dir, firstSeq, sinceMs)
  }

  async #survey(): Promise<readonly Segment[]> {
    const segments: Segment[] = []
    const numbers = await listSegments(this.#dir)
    for (const firstSeq of numbers) {
      const { segment, fileBytes } = await surveySegment(this.#dir, firstSeq)
      if (segment.size === 0) {
        await unlink(segment.path)
        continue
      }
      // With a rest of it behind the next append, the end of the file would not say what it holds.
      if (firstSeq === numbers.at(-1) && fileBytes > segment.size) await truncate(segment.path, segment.size)
      segments.push(segment)
    }
    return segments
  }
}

interface Held {
  events: number
  bytes: number
  atMs: number
}

/** How many of the oldest are wholly beyond a bound; the newest never is. */
function countBeyond(held: readonly Held[], bounds: JournalBounds, nowMs: number): number {
  let { events, bytes } = total(held)
  let count = 0
  for (const oldest of held.slice(0, -1)) {
    events -= oldest.events
    bytes -= oldest.bytes
    if (events < bounds.maxEvents && bytes < bounds.maxBytes && nowMs - oldest.atMs <= bounds.maxAgeMs) break
    count++
  }
  return count
}

function total(held: readonly Held[]): { events: number; bytes: number } {
  return held.reduce((sum, { events, bytes }) => ({ events: sum.events + events, bytes: sum.bytes + bytes }), {
    events: 0,
    bytes: 0
  })
}

function hasRoom(segment: Segment, records: readonly SegmentRecord[], bounds: JournalBounds): boolean {
  const { events, bytes } = total([segment, ...records])
  const spanMs = Math.max(...records.map(({ atMs }) => atMs)) - segment.sinceMs
  return (
    events <= bounds.maxEvents * SEGMENT_PART &&
    bytes <= Math.min(bounds.maxBytes * SEGMENT_PART, MAX_SEGMENT_BYTES) &&
    spanMs <= bounds.maxAgeMs * SEGMENT_PART
  )
}

/** Appends the runs to the file of a segment, and behind them that they are all there. */
async function write(base: Segment, records: readonly SegmentRecord[], runs: readonly Run[]): Promise<Segment> {
  const { firstSeq, sinceMs } = base
  const newest = records.at(-1) as SegmentRecord
  const { lastSeq, atMs } = newest
  const held = total([base, ...records])
  const commit = { kind: RecordKinds.COMMIT, firstSeq, lastSeq, sinceMs, atMs, ...held, checksum: 0 }
  const parts = runs.flatMap(({ frames }, index) => [encodeRecord(records[index] as SegmentRecord), frames])
  parts.push(encodeRecord(commit))
  const length = parts.reduce((sum, part) => sum + part.length, 0)

  await withFile(base.path, base.size === 0 ? 'w' : 'r+', async (file) => {
    const { bytesWritten } = await file.writev(parts, base.size)
    if (bytesWritten < length) throw new Error(`${base.path} took ${bytesWritten} of ${length} bytes`)
  })
  return extended(base, commit, base.size + length)
}
