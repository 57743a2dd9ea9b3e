import { writeHeader } from '../../src/journal/frames.ts'
import type { Run } from '../../src/journal/run.ts'
import type { JournalStore } from '../../src/stores/journal-store.ts'

export const WIDE = { maxEvents: 1e9, maxBytes: 1e9, maxAgeMs: 3_600_000 }
export const HEAD = { epoch: 'e1', lineage: [], isOpen: true, lastSeq: 0 }
export const EVERYTHING = 1e9

/** One event as a wire frame. Its bytes, all 256 values among them, follow from its number alone. */
export function frameOf(seq: number, payloadBytes = 100 + ((seq * 37) % 400)): Buffer {
  const frame = Buffer.alloc(10 + payloadBytes)
  const start = writeHeader(frame, 0, payloadBytes)
  for (let at = 0; at < payloadBytes; at++) frame[start + at] = (seq + at) & 0xff
  frame.write(String(seq), start)
  return frame.subarray(0, start + payloadBytes)
}

/** The events from one number to another as a run; `atMs` is now unless given. */
export function runOf(firstSeq: number, lastSeq: number, options: { atMs?: number; payloadBytes?: number } = {}): Run {
  const { atMs = Date.now(), payloadBytes } = options
  const frames = Array.from({ length: lastSeq - firstSeq + 1 }, (_, index) => frameOf(firstSeq + index, payloadBytes))
  return { firstSeq, lastSeq, atMs, frames: Buffer.concat(frames) }
}

/** Which events each run holds. */
export function spans(runs: readonly Run[]): string {
  return runs.map(({ firstSeq, lastSeq }) => `${firstSeq}-${lastSeq}`).join(' ')
}

export async function stored(store: JournalStore, userId: string): Promise<string> {
  return spans(await store.read(userId, 0, EVERYTHING))
}

export async function edges(store: JournalStore, userId: string): Promise<(number | undefined)[]> {
  const journal = await store.load(userId)
  return [journal?.firstSeq, journal?.lastSeq]
}
