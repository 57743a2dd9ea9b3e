import type { HeadStore } from './head-store.ts'

export interface AuditLogOptions {
  /** Signs checkpoints (`AUDIT_KEY`). Without it a rewriting of the whole chain cannot be excluded. */
  key?: string | undefined
  /** Where the newest head is kept; default: `head.json` beside the log. */
  headStore?: HeadStore
  /** A segment that has reached this size is followed by the next. Default 64 MiB. */
  segmentBytes?: number
  /** A checkpoint after this many records. Default 1,000. */
  checkpointEvery?: number
  /** A checkpoint this long after a record at the latest. Default 60,000 ms. */
  checkpointIntervalMs?: number
  /** After a failed write appends are refused at once for this long; then the log tries to recover. Default 1,000 ms. */
  retryDelayMs?: number
  /** `close` gives up on a disk that does not answer. Default 3,000 ms. */
  closeTimeoutMs?: number
  /** Appends that may wait for the disk; more are refused. Default 10,000. */
  maxWaiting?: number
  /** Why a damaged log may be continued; recorded. Without it a damaged log does not open. */
  acceptDamage?: string | undefined
  now?: () => number
  /** Trouble that does not touch the truth of the log: a head, checkpoint or index that could not be written. */
  onWarning?: (message: string, err: unknown) => void
}

export const DEFAULTS = {
  segmentBytes: 64 * 1024 * 1024,
  checkpointEvery: 1_000,
  checkpointIntervalMs: 60_000,
  retryDelayMs: 1_000,
  closeTimeoutMs: 3_000,
  maxWaiting: 10_000
}
