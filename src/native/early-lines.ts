import { frameOf } from './native-frames.ts'

/** Of one thread that is being opened; codex says a few. */
const MAX_LINES = 64

/**
 * What codex says of a thread before its reply to the client that opens it: to codex that client has subscribed by then,
 * but nobody here knows yet which thread it is.
 */
export class EarlyLines {
  #expected = 0
  #lines: { threadId: string; frame: Buffer }[] = []

  /** Whether the client waits for a thread to be opened. */
  get isExpecting(): boolean {
    return this.#expected > 0
  }

  /** Follow with {@link end}. */
  begin(): void {
    this.#expected++
  }

  /** A line of a thread to which the client has not subscribed. */
  note(threadId: string, bytes: Buffer, start: number, end: number): void {
    if (this.#lines.length < MAX_LINES) this.#lines.push({ threadId, frame: frameOf(bytes.subarray(start, end)) })
  }

  /** The lines of this thread, as frames. */
  end(threadId: string | undefined): Buffer[] {
    const own = this.#lines.filter((line) => line.threadId === threadId).map(({ frame }) => frame)
    if (--this.#expected === 0) this.#lines = []
    return own
  }
}
