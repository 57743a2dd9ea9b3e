import { crc32 } from 'node:zlib'
import type { Run } from '../journal/run.ts'
import { withFile } from './open-files.ts'
import type { Segment } from './segment.ts'
import { RECORD_BYTES, RecordKinds, recordLength, type SegmentRecord } from './segment-record.ts'
import { SCAN_BYTES, SegmentWindow } from './segment-window.ts'

/** Readers of one journal that go on where they stopped; one more begins at the start of its segment again. */
const MAX_CURSORS = 64
/** Read with the frames that fit: the headers between and behind them. */
const HEADERS_BYTES = 4 * RECORD_BYTES
const NO_FRAMES = Buffer.alloc(0)

interface Cursor {
  segmentSeq: number
  at: number
}

interface Reading {
  readonly afterSeq: number
  readonly maxBytes: number
  readonly runs: Run[]
  bytes: number
  isDone: boolean
}

/** Reads runs from the segments of one journal, beside whoever appends to them or removes them. */
export class SegmentReader {
  /** By the last number that a reader got: where its segment goes on. */
  readonly #cursors = new Map<number, Cursor>()

  /**
   * As JournalStore.read. A segment that is gone is left out. Where bytes are not as they were written, the run comes
   * without frames.
   */
  async read(segments: readonly Segment[], afterSeq: number, maxBytes: number): Promise<Run[]> {
    const reading: Reading = { afterSeq, maxBytes, runs: [], bytes: 0, isDone: false }
    for (const segment of segments) {
      if (segment.lastSeq <= afterSeq) continue
      const read = withFile(segment.path, 'r', (file) =>
        this.#readSegment(new SegmentWindow(file, segment.size), segment, reading)
      )
      await read.catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      })
      if (reading.isDone || reading.bytes >= maxBytes) break
    }
    return reading.runs
  }

  clear(): void {
    this.#cursors.clear()
  }

  async #readSegment(window: SegmentWindow, segment: Segment, reading: Reading): Promise<void> {
    const { afterSeq, maxBytes, runs } = reading
    const cursor = this.#takeCursor(segment, afterSeq)
    let at = cursor?.at ?? 0
    let isThere = cursor !== undefined || segment.firstSeq > afterSeq
    let nextSeq = Math.max(segment.firstSeq, afterSeq + 1)
    while (at < segment.size) {
      const wantedBytes = Math.max(maxBytes - reading.bytes, 0) + HEADERS_BYTES
      const record = await window.record(at, isThere ? wantedBytes : SCAN_BYTES)
      if (record === undefined) {
        const { lastSeq, atMs } = segment
        if (nextSeq <= lastSeq) runs.push({ firstSeq: nextSeq, lastSeq, atMs, frames: NO_FRAMES })
        return
      }
      if (record.kind === RecordKinds.RUN && record.lastSeq > afterSeq) {
        isThere = true
        reading.isDone = runs.length > 0 && reading.bytes + record.bytes > maxBytes
        if (reading.isDone) break
        runs.push(await readRun(window, record, at, wantedBytes))
        reading.bytes += record.bytes
        nextSeq = record.lastSeq + 1
      }
      at += recordLength(record)
    }
    this.#putCursor(nextSeq - 1, { segmentSeq: segment.firstSeq, at })
  }

  #takeCursor(segment: Segment, afterSeq: number): Cursor | undefined {
    const cursor = this.#cursors.get(afterSeq)
    return cursor?.segmentSeq === segment.firstSeq ? cursor : undefined
  }

  #putCursor(seq: number, cursor: Cursor): void {
    this.#cursors.delete(seq)
    this.#cursors.set(seq, cursor)
    if (this.#cursors.size <= MAX_CURSORS) return
    for (const oldest of this.#cursors.keys()) {
      this.#cursors.delete(oldest)
      return
    }
  }
}

async function readRun(window: SegmentWindow, record: SegmentRecord, at: number, wantedBytes: number): Promise<Run> {
  const { firstSeq, lastSeq, atMs, bytes, checksum } = record
  const frames = await window.bytes(at + RECORD_BYTES, bytes, wantedBytes)
  const isWhole = frames !== undefined && crc32(frames) === checksum
  return { firstSeq, lastSeq, atMs, frames: isWhole ? frames : NO_FRAMES }
}
