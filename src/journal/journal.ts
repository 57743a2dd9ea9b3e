/** One event of a user's session. */
export interface JournalEntry {
  /** Counts from 1 within an epoch, without holes. */
  readonly seq: number
  /** The whole message as JSON text: `{"type":…,"seq":…,"payload":…}`. */
  readonly message: Buffer
}

export interface JournalBounds {
  maxEvents: number
  maxBytes: number
  maxAgeMs: number
}

/** The event log of one user's session: append, and replay from a sequence number. */
export interface Journal {
  /** Opaque; changes whenever events that were sent may be missing here. */
  readonly epoch: string
  /** The newest entry's number; 0 when nothing was appended yet. */
  readonly lastSeq: number
  /** The oldest entry that can still be read; `lastSeq + 1` when there is none. */
  readonly firstSeq: number
  /** @param payload JSON text, spliced into the message as it is */
  append(type: string, payload: Buffer): JournalEntry
  /**
   * The entries after `seq`, oldest first, until `maxBytes` is reached (at least one if there is any). Undefined when
   * some of them are gone: the caller must tell the reader about the gap.
   */
  readAfter(seq: number, maxBytes: number): JournalEntry[] | undefined
}
