/** Failures within the window that make a crash loop. */
export const LOOP_FAILURES = 5
export const LOOP_WINDOW_MS = 120_000
/** How long nothing is tried after a crash loop. */
export const COOL_DOWN_MS = 60_000
/** A process that was ready this long clears what was before it. */
export const HEALTHY_MS = 60_000
/** The delay of the second restart in a row; it doubles from there. */
export const FIRST_DELAY_MS = 500
export const MAX_DELAY_MS = 30_000
/** A delay up to this is waited out; a longer one refuses the start. */
export const MAX_WAIT_MS = 2_000

/** What a start that is wanted now has to do. */
export type StartVerdict =
  | { kind: 'start'; delayMs: number }
  | { kind: 'refuse'; retryAfterMs: number; isCrashLoop: boolean }

export interface RestartPolicyOptions {
  /** A monotonic clock, ms. */
  nowMs(): number
  /** 0 … 1. */
  random(): number
}

const REAL: RestartPolicyOptions = { nowMs: () => performance.now(), random: Math.random }

/**
 * When a process that ended unexpectedly, or did not start, may be started again: the first time at once, then after
 * delays that double, with jitter, up to 30 s; not at all for a while once it is a crash loop, and then one try, which
 * makes it a loop again or, after a minute of health, ends the story. Decides only: no timers, no processes.
 */
export class RestartPolicy {
  readonly #options: RestartPolicyOptions
  /** When the latest failures happened, the oldest first. */
  #failures: number[] = []
  /** Failures in a row: without a healthy process or a quiet window between them. */
  #streak = 0
  /** A crash loop that no healthy process has ended yet. */
  #isCrashLoop = false
  #notBeforeMs = Number.NEGATIVE_INFINITY
  #readySinceMs: number | undefined

  constructor(options: RestartPolicyOptions = REAL) {
    this.#options = options
  }

  /** What a start that is wanted now has to do. */
  next(): StartVerdict {
    const delayMs = Math.max(0, this.#notBeforeMs - this.#options.nowMs())
    if (delayMs === 0) return { kind: 'start', delayMs }
    if (this.#isCrashLoop || delayMs > MAX_WAIT_MS) {
      return { kind: 'refuse', retryAfterMs: delayMs, isCrashLoop: this.#isCrashLoop }
    }
    return { kind: 'start', delayMs }
  }

  /** A process is ready. */
  onReady(): void {
    this.#readySinceMs = this.#options.nowMs()
  }

  /** The process was stopped because somebody wanted it. */
  onStopped(): void {
    this.#clearIfHealthy()
    this.#readySinceMs = undefined
  }

  /** The process ended unasked, or did not start. Returns whether this is a crash loop. */
  onFailure(): boolean {
    const nowMs = this.#options.nowMs()
    this.#clearIfHealthy()
    this.#readySinceMs = undefined
    this.#failures = [...this.#failures.filter((atMs) => nowMs - atMs <= LOOP_WINDOW_MS), nowMs]
    this.#streak = this.#failures.length === 1 ? 1 : this.#streak + 1
    this.#isCrashLoop ||= this.#failures.length >= LOOP_FAILURES
    this.#notBeforeMs = nowMs + (this.#isCrashLoop ? COOL_DOWN_MS : this.#delayMs())
    return this.#isCrashLoop
  }

  #clearIfHealthy(): void {
    if (this.#readySinceMs === undefined || this.#options.nowMs() - this.#readySinceMs < HEALTHY_MS) return
    this.#failures = []
    this.#isCrashLoop = false
  }

  #delayMs(): number {
    if (this.#streak === 1) return 0
    // Half of it by chance: what failed for all users at once must not come back for all of them at once.
    const fullMs = Math.min(FIRST_DELAY_MS * 2 ** (this.#streak - 2), MAX_DELAY_MS)
    return (fullMs / 2) * (1 + this.#options.random())
  }
}
