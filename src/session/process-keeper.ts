import { ProcessExited, ShuttingDown } from '../../errors.ts'
import { type CodexProcess, type ProcessExit, type ProcessHandlers, ProcessStates } from '../codex/process.ts'

export interface ProcessKeeperOptions extends Omit<ProcessHandlers, 'onExit'> {
  /** Starts a process; `signal` stops it, also in the middle of its start. */
  start(handlers: ProcessHandlers, signal: AbortSignal): Promise<CodexProcess>
  onReady(): void
  onStartFailed(error: Error): void
  /** A process that was ready has ended. `reason`: why it was stopped; undefined when nobody had asked for it. */
  onEnd(exit: ProcessExit, reason: string | undefined): void
}

/** A session's codex process: started when it is needed, and never two at once, which would share a codex home. */
export class ProcessKeeper {
  readonly #options: ProcessKeeperOptions
  readonly #closing = new AbortController()
  #process: Promise<CodexProcess> | undefined
  /** The end of the process before. */
  #stopped: Promise<void> = Promise.resolve()
  #stopReason: string | undefined

  constructor(options: ProcessKeeperOptions) {
    this.#options = options
  }

  get hasProcess(): boolean {
    return this.#process !== undefined
  }

  /** The process, if there is one or one is starting. */
  async current(): Promise<CodexProcess | undefined> {
    return this.#process?.catch(() => undefined)
  }

  /** The process, started if need be. Rejects as ProcessPool.start does. */
  ensure(): Promise<CodexProcess> {
    if (this.#closing.signal.aborted) return Promise.reject(new ShuttingDown())
    if (this.#process) return this.#process
    const starting: Promise<CodexProcess> = this.#start(() => {
      if (this.#process === starting) this.#process = undefined
    })
    this.#process = starting
    return starting
  }

  /** Resolves when the process, if there was one, is gone. */
  async stop(reason: string): Promise<void> {
    const running = this.#process
    const process = await running?.catch(() => undefined)
    if (process && this.#process === running) {
      this.#stopReason = reason
      // From here on a request waits for the end and a new start, instead of failing with this process.
      this.#process = undefined
      this.#stopped = process.stop()
    }
    await this.#stopped
  }

  /** Stops for good: no process is started any more, and a start that hangs is cut short. */
  async close(reason: string): Promise<void> {
    this.#closing.abort()
    await this.stop(reason)
  }

  async #start(forget: () => void): Promise<CodexProcess> {
    const { start, onReady, onStartFailed, onEnd, ...handlers } = this.#options
    const attempt = { isReady: false }
    await this.#stopped
    try {
      const onExit = (exit: ProcessExit) => {
        forget()
        const reason = this.#stopReason
        this.#stopReason = undefined
        // A process that never got ready is told by the start that failed.
        if (attempt.isReady) onEnd(exit, reason)
      }
      const process = await start({ ...handlers, onExit }, this.#closing.signal)
      // It may have died between its last answer and now; nobody was told.
      if (process.state === ProcessStates.EXITED) throw new ProcessExited()
      attempt.isReady = true
      onReady()
      return process
    } catch (error) {
      forget()
      onStartFailed(error as Error)
      throw error
    }
  }
}
