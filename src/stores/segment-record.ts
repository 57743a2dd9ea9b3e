import { crc32 } from 'node:zlib'
import type { Run } from '../journal/run.ts'

/** The header of a record; the frames of a run follow it. */
export const RECORD_BYTES = 56
/** No bytes of a run can pass for it: frames are short headers and UTF-8, which has none of these four. */
const MAGIC = 0xfffefdf8
const CHECKED_BYTES = RECORD_BYTES - 4

export const RecordKinds = { RUN: 1, COMMIT: 2 } as const
export type RecordKind = (typeof RecordKinds)[keyof typeof RecordKinds]

/** A run, or behind the runs of one append what its segment holds so far. */
export interface SegmentRecord {
  kind: RecordKind
  firstSeq: number
  lastSeq: number
  /** When the oldest and the newest event were appended. */
  sinceMs: number
  atMs: number
  /** Of frames. */
  bytes: number
  events: number
  /** CRC-32 of the frames of a run. */
  checksum: number
}

export function recordOf({ firstSeq, lastSeq, atMs, frames }: Run): SegmentRecord {
  const events = lastSeq - firstSeq + 1
  const checksum = crc32(frames)
  return { kind: RecordKinds.RUN, firstSeq, lastSeq, sinceMs: atMs, atMs, bytes: frames.length, events, checksum }
}

export function encodeRecord(record: SegmentRecord): Buffer {
  const header = Buffer.allocUnsafe(RECORD_BYTES)
  header.writeUInt32LE(MAGIC, 0)
  header.writeUInt32LE(record.kind, 4)
  header.writeDoubleLE(record.firstSeq, 8)
  header.writeDoubleLE(record.lastSeq, 16)
  header.writeDoubleLE(record.sinceMs, 24)
  header.writeDoubleLE(record.atMs, 32)
  header.writeUInt32LE(record.bytes, 40)
  header.writeUInt32LE(record.events, 44)
  header.writeUInt32LE(record.checksum, 48)
  header.writeUInt32LE(crc32(header.subarray(0, CHECKED_BYTES)), CHECKED_BYTES)
  return header
}

/** Undefined when these bytes are not the header of a record as it was written. */
export function decodeRecord(header: Buffer): SegmentRecord | undefined {
  if (header.readUInt32LE(0) !== MAGIC) return undefined
  if (header.readUInt32LE(CHECKED_BYTES) !== crc32(header.subarray(0, CHECKED_BYTES))) return undefined
  return {
    kind: header.readUInt32LE(4) as RecordKind,
    firstSeq: header.readDoubleLE(8),
    lastSeq: header.readDoubleLE(16),
    sinceMs: header.readDoubleLE(24),
    atMs: header.readDoubleLE(32),
    bytes: header.readUInt32LE(40),
    events: header.readUInt32LE(44),
    checksum: header.readUInt32LE(48)
  }
}

/** How many bytes of the file a record takes, with what follows its header. */
export function recordLength({ kind, bytes }: SegmentRecord): number {
  return kind === RecordKinds.RUN ? RECORD_BYTES + bytes : RECORD_BYTES
}
