import { type ClientOptions, WebSocket } from 'ws'
import type { Teardown } from './gateway.ts'

/** A message of the app-server protocol, read loosely, as a client would. */
export interface NativeMessage {
  id?: string | number
  method?: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into messages of many shapes
  params?: any
  // biome-ignore lint/suspicious/noExplicitAny: see above
  result?: any
  // biome-ignore lint/suspicious/noExplicitAny: see above
  error?: { code: number; message: string; data?: any }
}

interface Waiter {
  matches(message: NativeMessage): boolean
  resolve(message: NativeMessage): void
}

const WAIT_TIMEOUT_MS = 30_000

/** A client of the app-server protocol over a WebSocket, as good for codex's own listener as for the gateway's `/`. */
export class NativeClient {
  readonly socket: WebSocket
  readonly received: NativeMessage[] = []
  /** The same, as they came. */
  readonly texts: string[] = []
  #waiters: Waiter[] = []
  #lastId = 0

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => this.#onMessage(String(data)))
    socket.on('error', () => {})
  }

  /** Opens the socket and says nothing yet. Rejects when the upgrade is refused. */
  static async open(
    t: Teardown,
    url: string,
    { protocols = [], ...options }: ClientOptions & { protocols?: string[] } = {}
  ): Promise<NativeClient> {
    const client = new NativeClient(new WebSocket(url, protocols, { maxPayload: 0, ...options }))
    t.teardown(() => client.socket.terminate())
    await new Promise<void>((resolve, reject) => {
      client.socket.once('open', resolve)
      client.socket.once('error', reject)
    })
    return client
  }

  /** Opens it and shakes hands. */
  static async connect(
    t: Teardown,
    url: string,
    options: ClientOptions & { protocols?: string[]; capabilities?: object } = {}
  ): Promise<NativeClient> {
    const { capabilities, ...rest } = options
    const client = await NativeClient.open(t, url, rest)
    await client.initialize(capabilities)
    return client
  }

  async initialize(capabilities: object = {}): Promise<NativeMessage> {
    const reply = await this.request('initialize', {
      clientInfo: { name: 'test', title: null, version: '0' },
      capabilities: { experimentalApi: true, requestAttestation: false, ...capabilities }
    })
    this.send({ method: 'initialized' })
    return reply
  }

  send(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  }

  /** Sends a request and resolves with its reply, an error included. */
  request(method: string, params: unknown = {}): Promise<NativeMessage> {
    const id = ++this.#lastId
    const reply = this.waitFor((message) => message.id === id && message.method === undefined, `reply to ${method}`)
    this.send({ id, method, params })
    return reply
  }

  /** As {@link request}; rejects when the reply is an error. Resolves with the result. */
  // biome-ignore lint/suspicious/noExplicitAny: see NativeMessage
  async call(method: string, params: unknown = {}): Promise<any> {
    const { result, error } = await this.request(method, params)
    if (error) throw new Error(`${method}: ${JSON.stringify(error)}`)
    return result
  }

  /** Answers a request of the server. */
  answer(request: NativeMessage, result: unknown): void {
    this.send({ id: request.id, result })
  }

  /** The first notification with this method, also if it came already. */
  notified(method: string, matches: (params: NativeMessage['params']) => boolean = () => true): Promise<NativeMessage> {
    return this.waitFor(
      (message) => message.method === method && message.id === undefined && matches(message.params),
      method
    )
  }

  /** The first request of the server with this method, also if it came already. */
  asked(method: string, matches: (params: NativeMessage['params']) => boolean = () => true): Promise<NativeMessage> {
    return this.waitFor(
      (message) => message.method === method && message.id !== undefined && matches(message.params),
      method
    )
  }

  waitFor(matches: (message: NativeMessage) => boolean, what: string): Promise<NativeMessage> {
    const known = this.received.find(matches)
    if (known) return Promise.resolve(known)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const last = this.texts.slice(-8).map((text) => text.slice(0, 300))
        reject(new Error(`no ${what} within ${WAIT_TIMEOUT_MS} ms; last messages:\n${last.join('\n')}`))
      }, WAIT_TIMEOUT_MS)
      this.#waiters.push({
        matches,
        resolve: (message) => {
          clearTimeout(timer)
          resolve(message)
        }
      })
    })
  }

  #onMessage(text: string): void {
    const message = JSON.parse(text) as NativeMessage
    this.texts.push(text)
    this.received.push(message)
    const [matching, rest] = [[], []] as [Waiter[], Waiter[]]
    for (const waiter of this.#waiters) (waiter.matches(message) ? matching : rest).push(waiter)
    this.#waiters = rest
    for (const waiter of matching) waiter.resolve(message)
  }
}
