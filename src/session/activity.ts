import type { CodexProcess } from '../codex/process.ts'
import type { ProcessKeeper } from './process-keeper.ts'
import type { Reclaimable } from './reclaimer.ts'

export interface ActivityOptions {
  keeper: ProcessKeeper
  /** A turn runs or an approval waits. */
  isWorking(): boolean
  /** Whether a command that outlives its turn runs; see CodexCalls. Must not reject. */
  hasBackgroundTerminals(process: CodexProcess): Promise<boolean>
}

/** Whether a session's process has something to do, and since when it has not. */
export class Activity implements Reclaimable {
  readonly #options: ActivityOptions
  #lastActiveAtMs = Date.now()
  #inFlight = 0
  /** Requests that have come; tells whether one came meanwhile. */
  #requests = 0

  constructor(options: ActivityOptions) {
    this.#options = options
  }

  /** When it last did something, or was asked to. Clients that only stay, ping or come back do not count. */
  get lastActiveAtMs(): number {
    return this.#lastActiveAtMs
  }

  /** Something waits or runs: a turn, an approval, a request. */
  get isBusy(): boolean {
    return this.#inFlight > 0 || this.#options.isWorking()
  }

  get isIdle(): boolean {
    return this.#options.keeper.ready !== undefined && !this.isBusy
  }

  touch(): void {
    this.#lastActiveAtMs = Date.now()
  }

  /** Counts a request while it is answered. */
  async request<T>(answer: () => Promise<T>): Promise<T> {
    this.touch()
    this.#requests++
    this.#inFlight++
    try {
      return await answer()
    } finally {
      this.#inFlight--
      this.touch()
    }
  }

  /** Stops the process if it is idle and no background terminal runs; false when it is not. */
  async hibernate(reason: string): Promise<boolean> {
    const { keeper } = this.#options
    const process = keeper.ready
    const requests = this.#requests
    if (process === undefined || this.isBusy) return false
    // Where it answers, it is active from now on; where it does not, it stays as idle as it was.
    if (await this.#options.hasBackgroundTerminals(process)) return false
    // Asking took a moment, in which somebody may have needed it, or it may be another one already.
    if (this.isBusy || this.#requests !== requests || keeper.ready !== process) return false
    await keeper.stop(reason)
    return true
  }
}
