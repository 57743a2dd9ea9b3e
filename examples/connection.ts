/** The gateway's WebSocket messages, as far as client.ts reads them, and a connection that survives being cut. */
import { WebSocket } from 'ws'

export type Decision = 'accept' | 'acceptForSession' | 'decline' | 'cancel'

export interface Approval {
  approvalId: string
  kind: string
  command?: string
  cwd?: string
  changes?: { path: string; kind: string; diff: string }[]
  reason?: string
  policy: { rule: string; reason: string }
  decisions: Decision[]
  expiresAt: string
}

export interface Resolved {
  approvalId: string
  outcome: string
  by: { kind: string; id?: string; rule?: string }
}

export interface Item {
  id: string
  type: string
  command?: string
  aggregatedOutput?: string | null
  exitCode?: number | null
  status?: string
  changes?: { path: string; kind: { type: string } }[]
}

/** What codex itself tells: `method` says what happened, `params` to what. */
export interface CodexEvent {
  method: string
  params: {
    threadId?: string
    turn?: { id: string; status: string; error?: { message: string } | null }
    item?: Item
    delta?: string
  }
}

export interface Snapshot {
  epoch: string
  seq: number
  threads: { threadId: string; turnId?: string }[]
  pendingApprovals: Approval[]
}

type Payload = Record<string, unknown>

export type Message =
  | { type: 'session/ready'; payload: { userId: string; epoch: string; seq: number; pendingApprovals: Approval[] } }
  | { type: 'event'; seq: number; payload: CodexEvent }
  | { type: 'approval/request'; seq: number; payload: Approval }
  | { type: 'approval/resolved'; seq: number; payload: Resolved }
  | { type: 'session/state'; seq: number; payload: { state: string; reason?: string; retryAfterMs?: number } }
  | { type: 'session/gap'; payload: { epoch: string; from: number; to: number } }
  | { type: 'session/snapshot'; payload: Snapshot }
  | { type: 'response'; requestId: string; payload: Payload }
  | { type: 'error'; requestId?: string; payload: { code: string; message: string } }
  | { type: 'pong' }

export interface ConnectionOptions {
  /** `ws://host:port/ws`, with `?userId=` where no token says who it is. */
  url: URL
  token?: string | undefined
  /** A gateway from which nothing comes for two of these is gone; 15 s. */
  pingIntervalMs?: number
  onMessage(message: Message): void
  /** Connected, and everything that was missed has been delivered. */
  onReady(): void
  /** The connection was cut; it is being made again. */
  onLost(reason: string): void
  /** There is no connection and there will be none. */
  onEnd(reason: string): void
}

const PING_INTERVAL_MS = 15_000
const PING = JSON.stringify({ type: 'ping' })
/** The close codes from 4000 on are the gateway's own refusals, such as an expired token; but this one says: come back. */
const FIRST_REFUSAL = 4000
const STALLED = 4408
const FIRST_RETRY_MS = 500
const MAX_RETRY_MS = 15_000
const MAX_RETRIES = 40

/** Requests with their answers, and a place in the stream of events: after a cut nothing is missing and nothing twice. */
export class Connection {
  readonly #options: ConnectionOptions
  readonly #waiting = new Map<string, { resolve(payload: Payload): void; reject(error: Error): void }>()
  #socket: WebSocket | undefined
  /** The last event that was seen, and the last that there was when the connection was made. */
  #position: { epoch: string; seq: number } | undefined
  #target: { epoch: string; seq: number } | undefined
  #isReady = false
  #nextId = 1
  #retries = 0
  /** What the gateway asked for when it said that it would close. */
  #retryAfterMs: number | undefined
  #retry: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#connect()
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Sends a message and resolves with the payload of its response; rejects with the error's message and code. */
  request(type: string, payload: object): Promise<Payload> {
    const requestId = String(this.#nextId++)
    return new Promise((resolve, reject) => {
      if (!this.#isReady) return reject(new Error('not connected'))
      this.#waiting.set(requestId, { resolve, reject })
      this.#socket?.send(JSON.stringify({ type, payload, requestId }))
    })
  }

  /** Ends it for good; `onEnd` is not called. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#retry)
    this.#socket?.close()
  }

  #connect(): void {
    const url = new URL(this.#options.url)
    if (this.#position) {
      url.searchParams.set('epoch', this.#position.epoch)
      url.searchParams.set('since', String(this.#position.seq))
    }
    const { token } = this.#options
    const socket = new WebSocket(url, { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } })
    this.#socket = socket
    watchPulse(socket, this.#options.pingIntervalMs ?? PING_INTERVAL_MS)
    let refusal: string | undefined
    socket.on('message', (data) => this.#receive(JSON.parse(String(data)) as Message))
    socket.on('error', (error) => {
      refusal ??= `nothing answers at ${url.origin} (${error.message}); start the gateway with: npm start`
    })
    socket.on('unexpected-response', (_request, response) => {
      let body = ''
      response.on('data', (chunk) => (body += chunk))
      response.on('end', () => {
        refusal = describeRefusal(response.statusCode ?? 0, body)
        // A gateway that is busy or on its way down says 503: that passes.
        if (response.statusCode !== 503) this.#position = undefined
        socket.terminate()
      })
    })
    socket.once('close', (code, reason) => {
      if (this.#isClosed) return
      if (refusal !== undefined && !this.#position) this.#options.onEnd(refusal)
      else this.#onClose(code, String(reason))
    })
  }

  #onClose(code: number, reason: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error('the connection was lost'))
    this.#waiting.clear()
    this.#target = undefined
    this.#isReady = false
    if (code >= FIRST_REFUSAL && code !== STALLED) this.#options.onEnd(`the gateway closed the connection: ${reason}`)
    else if (this.#retries === MAX_RETRIES) this.#options.onEnd('the gateway did not come back')
    else {
      if (this.#retries === 0) this.#options.onLost(reason)
      const delayMs = readRetryAfterMs(reason) ?? this.#retryAfterMs ?? backOffMs(this.#retries)
      this.#retryAfterMs = undefined
      this.#retries++
      this.#retry = setTimeout(() => this.#connect(), delayMs)
    }
  }

  #receive(message: Message): void {
    this.#retries = 0
    if (message.type === 'pong') return
    if (message.type === 'session/ready') {
      this.#target = message.payload
      this.#position ??= { ...message.payload }
    } else if (message.type === 'session/snapshot') {
      this.#position = { ...message.payload }
    } else if ('seq' in message && this.#position) {
      // A replay may begin with what is known already.
      if (message.seq <= this.#position.seq) return
      this.#position.seq = message.seq
    }
    if (message.type === 'session/state') this.#retryAfterMs = message.payload.retryAfterMs
    if (!this.#settle(message)) this.#options.onMessage(message)
    const [target, position] = [this.#target, this.#position]
    if (target && position && target.epoch === position.epoch && target.seq <= position.seq) {
      this.#target = undefined
      this.#isReady = true
      this.#options.onReady()
    }
  }

  /** Whether the message is the answer to a request. */
  #settle(message: Message): boolean {
    if (message.type !== 'response' && message.type !== 'error') return false
    const waiting = this.#waiting.get(message.requestId ?? '')
    this.#waiting.delete(message.requestId ?? '')
    if (message.type === 'response') waiting?.resolve(message.payload)
    else waiting?.reject(new Error(`${message.payload.message} (${message.payload.code})`))
    return message.type === 'response' || waiting !== undefined
  }
}

/**
 * Without it a cable that was pulled would go unnoticed: TCP alone says nothing while nobody sends. With the gateway's own
 * ping message, since a browser can send no other; whatever comes in is a sign of life, be it the `pong` or not.
 */
function watchPulse(socket: WebSocket, intervalMs: number): void {
  let isAlive = true
  const timer = setInterval(() => {
    if (!isAlive) socket.terminate()
    else if (socket.readyState === WebSocket.OPEN) {
      isAlive = false
      socket.send(PING)
    }
  }, intervalMs)
  socket.on('message', () => {
    isAlive = true
  })
  socket.on('close', () => clearInterval(timer))
}

/** Longer each time, and by chance: a gateway that comes back must not meet all its clients in the same moment. */
function backOffMs(retries: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** retries, MAX_RETRY_MS) * (0.5 + Math.random() / 2)
}

/** A gateway that is leaving closes with 1001 and `…; retryAfter=<seconds>`, other seconds for each client. */
function readRetryAfterMs(reason: string): number | undefined {
  const [, seconds] = /retryAfter=([\d.]+)/.exec(reason) ?? []
  return seconds === undefined ? undefined : Number(seconds) * 1000
}

function describeRefusal(status: number, body: string): string {
  try {
    const { error } = JSON.parse(body) as { error: { code: string; message: string } }
    return `${error.message} (${error.code})`
  } catch {
    return `the answer was HTTP ${status}, not a WebSocket`
  }
}
