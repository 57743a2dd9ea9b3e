import { setTimeout as delay } from 'node:timers/promises'
import { ProcessExited, ProcessStartFailed } from '../../errors.ts'
import { redact } from '../audit/redact.ts'
import type { LaunchedProcess } from '../isolation/launcher.ts'
import { killMarked } from '../isolation/process-tree.ts'
import { asObject, type JsonObject, type JsonValue } from '../json.ts'
import { LineSplitter } from './framing.ts'
import type { ProcessOutput } from './output-socket.ts'
import { type ReplyObserver, RpcPeer, type ServerCall } from './rpc-peer.ts'

export const ProcessStates = {
  STARTING: 'starting',
  READY: 'ready',
  STOPPING: 'stopping',
  EXITED: 'exited'
} as const
export type ProcessState = (typeof ProcessStates)[keyof typeof ProcessStates]

const MAX_LINE_BYTES = 128 * 1024 * 1024
const START_TIMEOUT_MS = 20_000
/** The rungs of the stop ladder: how long codex gets after its stdin ends, and after SIGTERM, before SIGKILL. */
const STDIN_END_GRACE_MS = 1_000
const SIGTERM_GRACE_MS = 1_000
const SIGKILL_GRACE_MS = 1_000
const STDERR_KEPT_CHARS = 4_000
const LAST_WORDS_CHARS = 300
/**
 * How long after an end of its own what the process left behind is looked for: the search reads all of /proc, and a
 * start that follows at once should not have to share the machine with it.
 */
const SWEEP_DELAY_MS = 50

export interface ProcessExit {
  code: number | null
  signal: NodeJS.Signals | null
  /** False when nobody had asked it to stop. */
  expected: boolean
  /** The last line that it wrote to stderr, redacted and shortened; '' when there is none. */
  lastWords: string
}

/** What a person is told of an end: the signal or code, and the last line of stderr. */
export function describeExit({ code, signal, lastWords }: ProcessExit): string {
  return `${signal ?? `code ${code}`}${lastWords === '' ? '' : `: ${lastWords}`}`
}

export interface ProcessHandlers {
  /** See RpcHandlers.onNotification. */
  onNotification(method: string, bytes: Buffer, start: number, end: number): void
  onRequest(call: ServerCall): void
  /** After all lines of one read from the pipe: the moment to hand what was collected to the clients. */
  onBatchEnd(): void
  onGarbage(reason: string): void
  /** Once, when the process is gone; every request that waited has been rejected before. */
  onExit(exit: ProcessExit): void
}

/** One `codex app-server` child: handshake, requests, and a stop that leaves nothing behind. */
export class CodexProcess {
  /** Resolves when the process and everything it started are gone, whoever ended it. */
  readonly gone: Promise<void>
  readonly #child: LaunchedProcess
  readonly #output: ProcessOutput
  readonly #handlers: ProcessHandlers
  readonly #mark: string
  readonly #peer: RpcPeer
  readonly #lines = new LineSplitter(MAX_LINE_BYTES)
  readonly #onLine = (bytes: Buffer, start: number, end: number) => this.#peer.onLine(bytes, start, end)
  /** The process itself is gone; something may still hold its pipes. */
  readonly #exited: Promise<void>
  /** It is gone, and all that it wrote has been read. */
  readonly #closed: Promise<void>
  #state: ProcessState = ProcessStates.STARTING
  #handshake: JsonObject = {}
  #stderrTail = ''
  #spawnError: Error | undefined
  #stopping: Promise<void> | undefined
  #onGone = () => {}
  #sweep: NodeJS.Timeout | undefined
  #endedByItself = false

  /**
   * @param output what the child writes to its stdout
   * @param mark the PROCESS_MARK value that the child's environment carries; the stop finds stragglers by it
   */
  constructor(child: LaunchedProcess, output: ProcessOutput, mark: string, handlers: ProcessHandlers) {
    this.#child = child
    this.#output = output
    this.#mark = mark
    this.#handlers = handlers
    this.#peer = new RpcPeer((line) => this.#write(line), handlers)
    this.gone = new Promise((resolve) => {
      this.#onGone = resolve
    })
    const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
      child.once('close', (code, signal) => resolve([code, signal]))
    })
    this.#closed = Promise.all([ended, output.closed]).then(([[code, signal]]) => this.#onClose(code, signal))
    this.#exited = new Promise((resolve) => {
      child.once('exit', () => {
        this.#onExit()
        resolve()
      })
      void this.#closed.then(resolve)
    })
    // A spawn that fails emits 'error' and then 'close'; later errors (a failed kill) change nothing.
    child.on('error', (error) => {
      this.#spawnError ??= error
    })
    // EPIPE on a dead child's stdin: the exit itself is what tells everyone.
    child.stdin.on('error', () => {})
    output.read(
      (bytes) => this.#onData(bytes),
      () => this.#peer.isAwaiting
    )
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderrTail = (this.#stderrTail + text).slice(-STDERR_KEPT_CHARS)
    })
  }

  get state(): ProcessState {
    return this.#state
  }

  /** codex's reply to `initialize`; empty before. */
  get handshake(): JsonObject {
    return this.#handshake
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** The handshake: initialize, initialized. Rejects with ProcessStartFailed; the process is gone then. */
  async initialize(clientVersion: string, timeoutMs = START_TIMEOUT_MS): Promise<void> {
    try {
      this.#handshake = asObject(
        await this.#peer.request(
          'initialize',
          {
            clientInfo: { name: 'cloud_codex', title: 'Cloud Codex', version: clientVersion },
            // Without experimentalApi codex strips additionalPermissions from approvals: a request for more access
            // would look like a plain command.
            capabilities: { experimentalApi: true, requestAttestation: false }
          },
          timeoutMs
        )
      )
      this.#peer.notify('initialized')
      this.#state = ProcessStates.READY
    } catch (error) {
      const reason = this.#describeFailure(error as Error)
      await this.stop()
      throw new ProcessStartFailed(reason)
    }
  }

  /** See {@link RpcPeer.request}. */
  request(method: string, params: JsonValue, timeoutMs: number, onReply?: ReplyObserver): Promise<JsonValue> {
    if (this.#state !== ProcessStates.READY) return Promise.reject(new ProcessExited())
    this.#output.hurry()
    return this.#peer.request(method, params, timeoutMs, onReply)
  }

  /** Whether what codex writes waits in its pipe: for a while, as codex keeps what it cannot write in memory. */
  holdOutput(isHeld: boolean): void {
    if (isHeld) this.#output.pause()
    else this.#output.resume()
  }

  /** Asks, then SIGTERM, then SIGKILL; resolves when the process and everything it started are gone. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop().then(this.#onGone)
    return this.#stopping
  }

  async #stop(): Promise<void> {
    clearTimeout(this.#sweep)
    if (this.#state !== ProcessStates.EXITED) this.#state = ProcessStates.STOPPING
    this.#child.stdin.end()
    if (!(await within(STDIN_END_GRACE_MS, this.#exited))) {
      this.#child.kill('SIGTERM')
      if (!(await within(SIGTERM_GRACE_MS, this.#exited))) {
        this.#child.kill('SIGKILL')
      }
    }
    await killMarked(this.#mark)
    // A straggler that held our pipes kept 'close' from coming; it is dead now.
    if (await within(SIGKILL_GRACE_MS, this.#closed)) return
    // Something without our mark holds them still: 'close' must come all the same, or the slot would never be free.
    this.#output.destroy()
    this.#child.stderr.destroy()
    await within(SIGKILL_GRACE_MS, this.#closed)
  }

  #onExit(): void {
    if (this.#stopping !== undefined) return
    this.#endedByItself = true
    // 'close' waits for every holder of our pipes, so what the dead process left behind must go for that, too.
    this.#sweep = setTimeout(() => void this.stop(), SWEEP_DELAY_MS)
  }

  #describeFailure(error: Error): string {
    if (this.#spawnError) return this.#spawnError.message
    const { exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null) return error.message
    const lastWords = this.#lastWords()
    return `it ended with ${signalCode ?? `code ${exitCode}`}${lastWords ? ` (${lastWords})` : ''}`
  }

  #lastWords(): string {
    // A line that has lost its beginning may have lost what marks a secret in it.
    const isCut = this.#stderrTail.length === STDERR_KEPT_CHARS
    const whole = isCut
      ? this.#stderrTail.slice(this.#stderrTail.indexOf('\n') + 1 || STDERR_KEPT_CHARS)
      : this.#stderrTail
    return (redact(whole).trim().split('\n').at(-1) ?? '').slice(0, LAST_WORDS_CHARS)
  }

  #write(line: string): void {
    if (this.#child.stdin.writable) this.#child.stdin.write(line)
  }

  #onData(bytes: Buffer): void {
    try {
      this.#lines.push(bytes, this.#onLine)
    } catch (error) {
      // Past an over-long line the stream has no known boundary: nothing after it can be trusted.
      this.#handlers.onGarbage((error as Error).message)
      this.#child.kill('SIGKILL')
    }
    this.#handlers.onBatchEnd()
  }

  #onClose(code: number | null, signal: NodeJS.Signals | null): void {
    const expected = this.#state === ProcessStates.STOPPING && !this.#endedByItself
    this.#state = ProcessStates.EXITED
    this.#peer.close()
    this.#handlers.onExit({ code, signal, expected, lastWords: this.#lastWords() })
  }
}

/** Whether it happens within `ms`. */
async function within(ms: number, event: Promise<void>): Promise<boolean> {
  const timer = new AbortController()
  const late = delay(ms, false, { signal: timer.signal }).catch(() => false)
  const happened = await Promise.race([event.then(() => true), late])
  timer.abort()
  return happened
}
