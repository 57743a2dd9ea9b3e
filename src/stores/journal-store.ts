import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { StoredJournalInvalid } from '../../errors.ts'
import { skipFrames } from '../journal/frames.ts'
import type { JournalBounds } from '../journal/journal.ts'
import type { Run } from '../journal/run.ts'

const SeqSchema = Type.Integer({ minimum: 0 })

export const JournalHeadSchema = Type.Object({
  epoch: Type.String({ minLength: 1, maxLength: 256 }),
  /** Earlier epochs whose events, up to `lastSeq`, are in this journal; oldest first. */
  lineage: Type.Array(Type.Object({ epoch: Type.String(), lastSeq: SeqSchema })),
  /** True from a gateway's start with this journal until its clean end. */
  isOpen: Type.Boolean()
})

/** What a journal says of itself. */
export interface JournalHead extends Static<typeof JournalHeadSchema> {}

export interface StoredJournal extends JournalHead {
  /** The oldest event that can be read; `lastSeq + 1` when there is none. */
  firstSeq: number
  /** The newest number ever appended or burnt. */
  lastSeq: number
}

/**
 * The durable journals, one per user: a head and runs of events in ascending order, holes allowed. Every method rejects
 * with StoreUnavailable when the store does not answer, and with InvalidUserId for an id that is none. "Durable" for Redis
 * is what its own `appendfsync` says. In segments a head is on the disk; runs outlive the end of the process, and are on
 * the disk when a head that is closed is: a machine that crashes may cost the runs of its last half minute.
 */
export interface JournalStore {
  readonly name: 'segments' | 'redis'
  /** Undefined: this user has no journal. Rejects with StoredJournalInvalid when the head cannot be read. */
  load(userId: string): Promise<StoredJournal | undefined>
  /** Replaces the head; durable when resolved. `lastSeq` moves the stored one up (a burnt number), never down. */
  putHead(userId: string, head: JournalHead & { lastSeq: number }): Promise<void>
  /**
   * Appends runs and trims the oldest beyond the bounds in one atomic step; durable when resolved. A run goes once the
   * newer ones alone reach a bound (in segments: together with its whole segment); the newest run stays. The same events may be sent again after a failure, cut into
   * other runs or not: those at or before the stored `lastSeq` are skipped. The frames must not change before the promise
   * settles. Rejects with JournalUnknown, with nothing written, when the user has no head: put it and append again.
   */
  append(userId: string, runs: readonly Run[], bounds: JournalBounds): Promise<void>
  /**
   * The runs with `lastSeq > afterSeq`, oldest first, until `maxBytes` of frames (at least one if there is any). The
   * first may begin at or before `afterSeq`; a hole between runs is one of the journal, or what was trimmed meanwhile.
   * Frames that are not as they were written are left out: such a run has none.
   */
  read(userId: string, afterSeq: number, maxBytes: number): Promise<Run[]>
  /**
   * Removes runs whose newest event is older than `beforeMs` (milliseconds since the epoch), and closed heads that are
   * as old and have none left; an open head stays, its gateway may be alive. Redis: nothing to do, its keys expire.
   */
  expire(beforeMs: number): Promise<void>
  /** Removes head and runs; an append that comes later does not bring them back. */
  delete(userId: string): Promise<void>
  close(): Promise<void>
}

const StoredJournalSchema = Type.Intersect([
  JournalHeadSchema,
  Type.Object({ firstSeq: Type.Integer({ minimum: 1 }), lastSeq: SeqSchema })
])
const storedJournalCheck = Compile(StoredJournalSchema)

/** What was read, if it is a stored journal; throws StoredJournalInvalid. */
export function checkStoredJournal(userId: string, value: unknown): StoredJournal {
  if (storedJournalCheck.Check(value)) return value
  const [first] = storedJournalCheck.Errors(value)
  throw new StoredJournalInvalid(userId, `${first?.instancePath || 'it'} ${first?.message}`)
}

/** Reads JSON back; throws StoredJournalInvalid. */
export function parseStored(userId: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new StoredJournalInvalid(userId, 'it is not JSON')
  }
}

/** What a journal that ends at `lastSeq` does not hold yet of runs in ascending order. */
export function runsAfter(lastSeq: number, runs: readonly Run[]): Run[] {
  return runs.filter((run) => run.lastSeq > lastSeq).map((run) => runAfter(lastSeq, run))
}

/** A write whose answer was lost is sent again with newer events in the same run. */
function runAfter(seq: number, run: Run): Run {
  if (run.firstSeq > seq) return run
  const frames = run.frames.subarray(skipFrames(run.frames, 0, seq - run.firstSeq + 1))
  return { ...run, firstSeq: seq + 1, frames }
}
