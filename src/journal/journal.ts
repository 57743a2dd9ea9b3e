import type { Run } from './run.ts'

export interface JournalBounds {
  maxEvents: number
  maxBytes: number
  maxAgeMs: number
}

/** Everything up to and with `since` of `epoch` has been seen. */
export interface JournalPosition {
  epoch: string
  since: number
}

/** The event log of one user's session, as its clients see it. */
export interface Journal {
  /** Opaque; changes whenever events that were sent may be missing here. */
  readonly epoch: string
  /** The newest event's number; 0 when there was none yet. */
  readonly lastSeq: number
  /** The events that were appended since the last call. */
  takeNew(): Run[]
  /**
   * Events after `seq`, oldest first, about `maxBytes` of them (at least one if there is any). What is missing between
   * `seq` and the first, or between two runs, or up to `lastSeq` when nothing comes back, is gone for good. Rejects with
   * StoreUnavailable.
   */
  read(seq: number, maxBytes: number): Run[] | Promise<Run[]>
  /** The number after which a client at this position reads on; undefined when its past is not this journal's. */
  locate(position: JournalPosition): number | undefined
}
