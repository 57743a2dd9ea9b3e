import { stat } from 'node:fs/promises'
import { GENESIS_HASH, type Head, MAX_LINE_BYTES, readRecord } from './record.ts'
import { listSegments, readLines, type Segment } from './segments.ts'

/** No batch is larger, so no write cut short by a crash leaves more behind the last whole record. */
export const MAX_BATCH_BYTES = 1024 * 1024

/** The end of a log, as found when it is opened. */
export interface Survey {
  /** The newest segment; undefined for an empty log. */
  segment: Segment | undefined
  /** Bytes of that segment that are whole records of one chain. */
  goodBytes: number
  /** Bytes behind them. */
  restBytes: number
  /** The last record of the good bytes. */
  head: Head
  /** The last record that is sound in itself, damaged neighbours or not. */
  lastSound: Head
  /** Why the log must not be continued in silence. */
  damage: string | undefined
}

interface Scan {
  goodBytes: number
  head: Head | undefined
  lastSound: Head | undefined
  conflict: string | undefined
}

/**
 * Reads the newest segment and compares it with the heads known to have been durable. A rest that one unfinished write
 * can explain, with every known head in front of it, is a torn tail; anything else is damage.
 */
export async function surveyLog(dir: string, knownHeads: readonly Head[]): Promise<Survey> {
  const segments = await listSegments(dir)
  const segment = segments.at(-1)
  const genesis = { seq: 0, hash: GENESIS_HASH }
  const survey: Survey = { segment, goodBytes: 0, restBytes: 0, head: genesis, lastSound: genesis, damage: undefined }
  if (segment) {
    const scan = await scanSegment(segment, knownHeads)
    const before = scan.head ? undefined : await lastOf(segments.slice(0, -1), knownHeads)
    survey.goodBytes = scan.goodBytes
    survey.restBytes = (await stat(segment.path)).size - scan.goodBytes
    survey.head = scan.head ?? before?.head ?? genesis
    survey.lastSound = scan.lastSound ?? before?.lastSound ?? survey.head
    survey.damage = scan.conflict ?? before?.conflict
  }
  const lost = knownHeads.find((known) => known.seq > survey.head.seq)
  if (lost) survey.damage ??= `it ends at record ${survey.head.seq}, but record ${lost.seq} was durable`
  if (survey.restBytes > MAX_BATCH_BYTES + MAX_LINE_BYTES) {
    survey.damage ??= `${survey.restBytes} bytes behind record ${survey.head.seq} do not continue the chain`
  }
  return survey
}

async function lastOf(segments: Segment[], knownHeads: readonly Head[]): Promise<Scan | undefined> {
  for (const segment of segments.reverse()) {
    const scan = await scanSegment(segment, knownHeads)
    if (scan.lastSound) return scan
  }
  return undefined
}

async function scanSegment(segment: Segment, knownHeads: readonly Head[]): Promise<Scan> {
  const scan: Scan = { goodBytes: 0, head: undefined, lastSound: undefined, conflict: undefined }
  let good = true
  for await (const lines of readLines(segment.path)) {
    for (const { bytes, offset, complete } of lines) {
      const read = complete ? readRecord(bytes) : undefined
      if (!read || read.computed !== read.record.hash) {
        good = false
        continue
      }
      const { seq, hash, prev } = read.record
      good &&= scan.head === undefined || (seq === scan.head.seq + 1 && prev === scan.head.hash)
      scan.lastSound = { seq, hash }
      if (!good) continue
      scan.head = { seq, hash }
      scan.goodBytes = offset + bytes.length + 1
      const known = knownHeads.find((candidate) => candidate.seq === seq)
      if (known && known.hash !== hash) scan.conflict ??= `record ${seq} is not the one that was written`
    }
  }
  return scan
}
