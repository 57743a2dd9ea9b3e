import { once } from 'node:events'
import { type ClientOptions, WebSocket } from 'ws'
import type { Teardown } from './gateway.ts'

/** A message of the gateway; `payload` is read loosely, as a client would. */
export interface Received {
  type: string
  requestId?: string
  seq?: number
  // biome-ignore lint/suspicious/noExplicitAny: tests look into payloads of many shapes
  payload: any
  dropped?: string[]
}

interface Waiter {
  matches(message: Received): boolean
  resolve(message: Received): void
}

const WAIT_TIMEOUT_MS = 20_000

/** A /ws client that keeps everything it receives and lets a test wait for a message by what it is. */
export class TestClient {
  readonly socket: WebSocket
  readonly received: Received[] = []
  #waiters: Waiter[] = []
  #nextId = 1

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => this.#onMessage(JSON.parse(String(data)) as Received))
    socket.on('error', () => {})
  }

  /** Connects and waits for session/ready. Rejects with the HTTP status when the upgrade is refused. */
  static async connect(
    t: Teardown,
    url: string,
    options: ClientOptions & { protocols?: string[] } = {}
  ): Promise<TestClient> {
    const { protocols = [], ...rest } = options
    const client = new TestClient(new WebSocket(url, protocols, rest))
    t.teardown(() => client.socket.terminate())
    await new Promise<void>((resolve, reject) => {
      client.socket.once('open', resolve)
      client.socket.once('error', reject)
      client.socket.once('unexpected-response', (_request, response) => {
        let body = ''
        response.on('data', (chunk) => (body += chunk))
        response.on('end', () =>
          reject(Object.assign(new Error(`HTTP ${response.statusCode}`), { statusCode: response.statusCode, body }))
        )
      })
    })
    await client.waitFor('session/ready')
    return client
  }

  get ready(): Received {
    return this.received.find(({ type }) => type === 'session/ready') as Received
  }

  /** Journal numbers of everything received, in order of arrival. */
  get seqs(): number[] {
    return this.received.flatMap(({ seq }) => seq ?? [])
  }

  send(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  }

  /** Sends a message and resolves with its response's or error's message. */
  request(type: string, payload?: unknown): Promise<Received> {
    const requestId = `req-${this.#nextId++}`
    const answer = this.waitForMessage((message) => message.requestId === requestId, `the answer to ${type}`)
    this.send({ type, requestId, ...(payload === undefined ? {} : { payload }) })
    return answer
  }

  /** As {@link request}; rejects when the answer is an error. Resolves with the payload. */
  // biome-ignore lint/suspicious/noExplicitAny: see Received
  async call(type: string, payload?: unknown): Promise<any> {
    const answer = await this.request(type, payload)
    if (answer.type === 'error') throw new Error(`${type}: ${JSON.stringify(answer.payload)}`)
    return answer.payload
  }

  /** The first message of this type (and content), also if it came already. */
  waitFor(type: string, matches: (payload: Received['payload']) => boolean = () => true): Promise<Received> {
    return this.waitForMessage((message) => message.type === type && matches(message.payload), type)
  }

  /** The first event of codex with this method, also if it came already. */
  waitForEvent(method: string, matches: (params: Received['payload']) => boolean = () => true): Promise<Received> {
    return this.waitFor('event', (payload) => payload.method === method && matches(payload.params))
  }

  waitForMessage(matches: (message: Received) => boolean, what: string): Promise<Received> {
    const known = this.received.find(matches)
    if (known) return Promise.resolve(known)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const last = this.received.slice(-5).map((message) => JSON.stringify(message).slice(0, 200))
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

  /** Starts a thread and a turn with this text; resolves when the turn is running. */
  async startTurn(text: string, threadId?: string): Promise<{ threadId: string; turnId: string }> {
    const id = threadId ?? ((await this.call('thread/start', {})).threadId as string)
    const { turnId } = await this.call('turn/start', { threadId: id, input: [{ type: 'text', text }] })
    return { threadId: id, turnId }
  }

  waitForTurnEnd(turnId: string): Promise<Received> {
    return this.waitForEvent('turn/completed', ({ turn }) => turn.id === turnId)
  }

  async close(): Promise<[number, Buffer]> {
    this.socket.close()
    return (await once(this.socket, 'close')) as [number, Buffer]
  }

  #onMessage(message: Received): void {
    this.received.push(message)
    const [matching, rest] = [[], []] as [Waiter[], Waiter[]]
    for (const waiter of this.#waiters) (waiter.matches(message) ? matching : rest).push(waiter)
    this.#waiters = rest
    for (const waiter of matching) waiter.resolve(message)
  }
}
