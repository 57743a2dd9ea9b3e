/**
 * Consecutive events as they go over the wire: WebSocket text frames (RFC 6455, from a server: unmasked), one behind the
 * other, each with one whole message `{"type":…,"seq":N,"payload":…}`. No number between the two is missing.
 */
export interface Run {
  readonly firstSeq: number
  readonly lastSeq: number
  /** When its newest event was appended. */
  readonly atMs: number
  readonly frames: Buffer
}
