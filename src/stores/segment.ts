import { type FileHandle, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { withFile } from './open-files.ts'
import { decodeRecord, RECORD_BYTES, RecordKinds, type SegmentRecord } from './segment-record.ts'
import { SegmentWindow } from './segment-window.ts'

const NAME = /^(\d{16})\.segment$/

/** A file of a journal: whole appends, one behind the other. Never changed: what an append makes of it is another one. */
export interface Segment {
  readonly path: string
  readonly firstSeq: number
  readonly lastSeq: number
  readonly events: number
  /** Of frames. */
  readonly bytes: number
  /** When the oldest and the newest event were appended. */
  readonly sinceMs: number
  readonly atMs: number
  /** Bytes of the file that belong to the journal. */
  readonly size: number
  /** Whether all of it is known to be on the disk. */
  readonly isSynced: boolean
}

export function emptySegment(dir: string, firstSeq: number, sinceMs: number): Segment {
  const path = join(dir, `${String(firstSeq).padStart(16, '0')}.segment`)
  const nothing = { lastSeq: firstSeq - 1, events: 0, bytes: 0, size: 0, isSynced: false }
  return { path, firstSeq, sinceMs, atMs: sinceMs, ...nothing }
}

/** The numbers that segments of this directory begin with, ascending; none when it is not there. */
export async function listSegments(dir: string): Promise<number[]> {
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const numbers = names.flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number)
  return numbers.sort((a, b) => a - b)
}

/** What a segment holds and how long its file is, which is more when its last append did not come to its end. */
export async function surveySegment(dir: string, firstSeq: number): Promise<{ segment: Segment; fileBytes: number }> {
  const empty = emptySegment(dir, firstSeq, 0)
  return withFile(empty.path, 'r', async (file) => {
    const { size } = await file.stat()
    const commit = await lastCommit(file, size, firstSeq)
    return { segment: commit === undefined ? empty : extended(empty, commit.record, commit.endAt), fileBytes: size }
  })
}

/** The segment, grown to `size`, as the record of a commit describes it. */
export function extended(
  segment: Segment,
  { lastSeq, events, bytes, sinceMs, atMs }: SegmentRecord,
  size: number
): Segment {
  return { ...segment, lastSeq, events, bytes, sinceMs, atMs, size, isSynced: false }
}

async function lastCommit(file: FileHandle, size: number, firstSeq: number) {
  const isCommit = (record: SegmentRecord | undefined) =>
    record?.kind === RecordKinds.COMMIT && record.firstSeq === firstSeq
  const tail = new SegmentWindow(file, size)
  const header = await tail.bytes(size - RECORD_BYTES, RECORD_BYTES, 0)
  const record = header && decodeRecord(header)
  if (record && isCommit(record)) return { record, endAt: size }

  let last: { record: SegmentRecord; endAt: number } | undefined
  for await (const { record, endAt } of new SegmentWindow(file, size).records()) {
    if (isCommit(record)) last = { record, endAt }
  }
  return last
}
