import { setTimeout as delay } from 'node:timers/promises'
import { CrashLoop, PoolFull, ProcessExited, RestartDelayed, ShuttingDown, withDetails } from '../../errors.ts'
import {
  type CodexProcess,
  describeExit,
  type ProcessExit,
  type ProcessHandlers,
  ProcessStates
} from '../codex/process.ts'
import { COOL_DOWN_MS, LOOP_WINDOW_MS, RestartPolicy } from './restart-policy.ts'

export interface ProcessKeeperOptions extends Omit<ProcessHandlers, 'onExit'> {
  /** Starts a process; `signal` stops it, also in the middle of its start. */
  start(handlers: ProcessHandlers, signal: AbortSignal): Promise<CodexProcess>
  onReady(): void
  /** A start failed, or the process has ended so often that it is not started for a while (CrashLoop). */
  onFailed(error: Error): void
  /** A process that was ready has ended. `reason`: why it was stopped; undefined when nobody had asked for it. */
  onEnd(exit: ProcessExit, reason: string | undefined): void
}

/**
 * A session's codex process: started when it is needed, never two at once, which would share a codex home, and not
 * again and again when it keeps ending.
 */
export class ProcessKeeper {
  readonly #options: ProcessKeeperOptions
  readonly #policy: RestartPolicy
  readonly #closing = new AbortController()
  #process: Promise<CodexProcess> | undefined
  /** The process once it is ready, until it is stopped or ends. */
  #ready: CodexProcess | undefined
  /** The end of the process before. */
  #stopped: Promise<void> = Promise.resolve()
  #stopReason: string | undefined
  #lastFailure = ''
  #isDraining = false

  constructor(options: ProcessKeeperOptions, policy = new RestartPolicy()) {
    this.#options = options
    this.#policy = policy
  }

  /** There is a process, or one is starting or waits to be started. */
  get hasProcess(): boolean {
    return this.#process !== undefined
  }

  /** The process if it is there and ready. */
  get ready(): CodexProcess | undefined {
    return this.#ready
  }

  /** The process, if there is one or one is starting. */
  async current(): Promise<CodexProcess | undefined> {
    return this.#process?.catch(() => undefined)
  }

  /**
   * The process, started if need be, after a short delay where it has just failed. Rejects as ProcessPool.start does,
   * and with RestartDelayed or CrashLoop while it is not to be started.
   */
  ensure(): Promise<CodexProcess> {
    if (this.#closing.signal.aborted) return Promise.reject(new ShuttingDown())
    if (this.#process) return this.#process
    if (this.#isDraining) return Promise.reject(new ShuttingDown())
    const verdict = this.#policy.next()
    if (verdict.kind === 'refuse') return Promise.reject(this.#refusal(verdict.retryAfterMs, verdict.isCrashLoop))
    const starting: Promise<CodexProcess> = this.#start(verdict.delayMs, () => {
      if (this.#process !== starting) return
      this.#process = undefined
      this.#ready = undefined
    })
    this.#process = starting
    return starting
  }

  /** Resolves when the process, if there was one, is gone. A request from here on waits for its end and a new start. */
  async stop(reason: string): Promise<void> {
    const running = this.#process
    // A process that is ready is taken in this very turn of the loop: no request can get hold of it any more.
    const process = this.#ready ?? (await running?.catch(() => undefined))
    if (process && this.#process === running) {
      this.#stopReason = reason
      this.#process = undefined
      this.#ready = undefined
      this.#stopped = process.stop()
    }
    await this.#stopped
  }

  /** The process that is there may go on; no other is started any more. */
  drain(): void {
    this.#isDraining = true
  }

  /** Stops for good: no process is started any more, and a start that hangs or waits is cut short. */
  async close(reason: string): Promise<void> {
    this.#closing.abort()
    await this.stop(reason)
  }

  async #start(delayMs: number, forget: () => void): Promise<CodexProcess> {
    const { start, onReady, onFailed, onEnd, ...handlers } = this.#options
    const attempt = { isReady: false }
    try {
      await this.#stopped
      if (delayMs > 0) await this.#wait(delayMs)
      const onExit = (exit: ProcessExit) => {
        forget()
        // A process that never got ready is told by the start that failed.
        if (attempt.isReady) this.#onEnd(exit)
      }
      const process = await start({ ...handlers, onExit }, this.#closing.signal)
      // It may have died between its last answer and now; nobody was told.
      if (process.state === ProcessStates.EXITED) throw new ProcessExited()
      attempt.isReady = true
      this.#ready = process
      this.#policy.onReady()
      onReady()
      return process
    } catch (error) {
      forget()
      this.#onStartFailed(error as Error)
      throw error
    }
  }

  #wait(delayMs: number): Promise<void> {
    return delay(delayMs, undefined, { signal: this.#closing.signal }).catch(() => {
      throw new ShuttingDown()
    })
  }

  #onEnd(exit: ProcessExit): void {
    const reason = this.#stopReason
    this.#stopReason = undefined
    if (exit.expected) this.#policy.onStopped()
    this.#options.onEnd(exit, reason)
    if (!exit.expected) this.#fail(`codex ended (${describeExit(exit)})`)
  }

  #onStartFailed(error: Error): void {
    // Neither says anything about codex.
    if (error instanceof PoolFull || error instanceof ShuttingDown) return
    if (!this.#fail(error.message)) this.#options.onFailed(error)
  }

  /** Counts a failure; tells of the crash loop, if it is one now, and returns whether it is. */
  #fail(description: string): boolean {
    this.#lastFailure = description
    const isCrashLoop = this.#policy.onFailure()
    if (isCrashLoop) this.#options.onFailed(this.#refusal(COOL_DOWN_MS, true))
    return isCrashLoop
  }

  #refusal(retryAfterMs: number, isCrashLoop: boolean): Error {
    const retryAfter = Math.ceil(retryAfterMs / 1_000)
    const error = isCrashLoop
      ? new CrashLoop(LOOP_WINDOW_MS / 60_000, retryAfter, this.#lastFailure)
      : new RestartDelayed(retryAfter, this.#lastFailure)
    return withDetails(error, { retryAfter })
  }
}
