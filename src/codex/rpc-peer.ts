import { ProcessExited, RequestTimeout, TooManyInFlight } from '../../errors.ts'
import type { JsonValue } from '../json.ts'
import { classifyLine, LineClassifier, type RpcErrorObject, type RpcId } from './classify.ts'

/** codex drops replies past about 128 queued requests (PROTOCOL §1); a quarter of that leaves room for its own work. */
const MAX_IN_FLIGHT = 32
const MAX_QUEUED = 1024

/** codex answered a request with a JSON-RPC error. */
export class RpcError extends Error {
  readonly rpcCode: number
  readonly data: JsonValue | undefined

  constructor(error: RpcErrorObject) {
    super(error.message)
    this.name = 'RpcError'
    this.rpcCode = error.code
    this.data = error.data
  }
}

/** A request of codex. It must be answered exactly once; an answer after the connection closed goes nowhere. */
export interface ServerCall {
  readonly id: RpcId
  readonly method: string
  readonly params: JsonValue | undefined
  respond(result: JsonValue): void
  respondError(error: RpcErrorObject): void
}

export interface RpcHandlers {
  /** A notification: its raw JSON text is `bytes` from `start` to `end`, valid during the call only. */
  onNotification(method: string, bytes: Buffer, start: number, end: number): void
  onRequest(call: ServerCall): void
  /** A line that is no JSON-RPC message; nothing was changed by it. */
  onGarbage(reason: string): void
}

/**
 * Sees a reply at its place among the notifications, before the request itself settles.
 *
 * @param line the reply as codex wrote it, valid during the call only
 */
export type ReplyObserver = (line: Buffer) => void

interface Pending {
  onReply: ReplyObserver | undefined
  method: string
  timeoutMs: number
  line: string
  resolve(result: JsonValue): void
  reject(error: Error): void
  timer: NodeJS.Timeout | undefined
}

/**
 * The gateway's end of one JSON-RPC connection to a codex process: symmetric (both sides ask), our own ids, at most
 * {@link MAX_IN_FLIGHT} requests outstanding and the rest queued. Every request settles exactly once: reply, time-out
 * or close.
 */
export class RpcPeer {
  readonly #write: (line: string) => void
  readonly #handlers: RpcHandlers
  readonly #classifier = new LineClassifier()
  readonly #pending = new Map<number, Pending>()
  #queue: [number, Pending][] = []
  #nextId = 1
  #closed: Error | undefined

  constructor(write: (line: string) => void, handlers: RpcHandlers) {
    this.#write = write
    this.#handlers = handlers
  }

  /**
   * Sends a request. Rejects with {@link RpcError} (codex refused), RequestTimeout (`timeoutMs` after it was sent or
   * queued), ProcessExited (the connection closed first) or TooManyInFlight (the queue is full).
   */
  request(method: string, params: JsonValue, timeoutMs: number, onReply?: ReplyObserver): Promise<JsonValue> {
    if (this.#closed) return Promise.reject(this.#closed)
    if (this.#queue.length >= MAX_QUEUED) return Promise.reject(new TooManyInFlight(MAX_QUEUED))
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const line = encodeLine({ id, method, params })
      const pending: Pending = { onReply, method, timeoutMs, line, resolve, reject, timer: undefined }
      pending.timer = setTimeout(() => this.#expire(id, pending), timeoutMs)
      if (this.#pending.size < MAX_IN_FLIGHT) this.#send(id, pending)
      else this.#queue.push([id, pending])
    })
  }

  /** Whether a reply is to come. */
  get isAwaiting(): boolean {
    return this.#pending.size > 0
  }

  notify(method: string, params?: JsonValue): void {
    if (!this.#closed) this.#write(encodeLine(params === undefined ? { method } : { method, params }))
  }

  /** Takes one line from codex: `bytes` from `start` to `end`. Never throws. */
  onLine(bytes: Buffer, start: number, end: number): void {
    const method = this.#classifier.notificationMethod(bytes, start, end)
    if (method !== undefined) {
      this.#handlers.onNotification(method, bytes, start, end)
      return
    }
    const line = bytes.subarray(start, end)
    const message = classifyLine(line)
    switch (message.kind) {
      case 'notification':
        this.#handlers.onNotification(message.method, bytes, start, end)
        break
      case 'request':
        this.#handlers.onRequest(this.#serverCall(message.id, message.method, message.params))
        break
      case 'response':
        this.#settle(line, message.id, (pending) => pending.resolve(message.result))
        break
      case 'error':
        this.#settle(line, message.id, (pending) => pending.reject(new RpcError(message.error)))
        break
      case 'garbage':
        this.#handlers.onGarbage(message.reason)
    }
  }

  /** Rejects everything that waits, now and not at its time-out. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = new ProcessExited()
    const waiting = [...this.#pending.values(), ...this.#queue.map(([, pending]) => pending)]
    this.#pending.clear()
    this.#queue = []
    for (const pending of waiting) {
      clearTimeout(pending.timer)
      pending.reject(this.#closed)
    }
  }

  #serverCall(id: RpcId, method: string, params: JsonValue | undefined): ServerCall {
    const reply = (content: object) => {
      if (!this.#closed) this.#write(encodeLine({ id, ...content }))
    }
    return { id, method, params, respond: (result) => reply({ result }), respondError: (error) => reply({ error }) }
  }

  #send(id: number, pending: Pending): void {
    this.#pending.set(id, pending)
    this.#write(pending.line)
  }

  #settle(line: Buffer, id: RpcId | null, settle: (pending: Pending) => void): void {
    const pending = typeof id === 'number' ? this.#pending.get(id) : undefined
    // A reply that comes after its time-out finds nothing: its caller has been told already.
    if (!pending) return
    this.#pending.delete(id as number)
    clearTimeout(pending.timer)
    this.#sendNext()
    pending.onReply?.(line)
    settle(pending)
  }

  #expire(id: number, pending: Pending): void {
    if (this.#pending.delete(id)) this.#sendNext()
    else this.#queue = this.#queue.filter(([queuedId]) => queuedId !== id)
    pending.reject(new RequestTimeout(pending.method, pending.timeoutMs))
  }

  #sendNext(): void {
    const next = this.#queue.shift()
    if (next) this.#send(...next)
  }
}

/** An escaped backslash, or half of a surrogate pair: JSON.stringify writes it as an escape, when it stands alone. */
const BACKSLASH_OR_LONE_SURROGATE = /\\(?:\\|ud[89a-f][0-9a-f]{2})/g

/** codex drops a line with half of a surrogate pair in it, and whoever asked would wait for ever. */
function encodeLine(message: object): string {
  const text = JSON.stringify(message).replace(BACKSLASH_OR_LONE_SURROGATE, (found) =>
    found === '\\\\' ? found : '\\ufffd'
  )
  return `${text}\n`
}
