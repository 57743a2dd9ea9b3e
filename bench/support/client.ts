import { once } from 'node:events'
import { WebSocket } from 'ws'

/** A message of the gateway on /ws, read loosely. */
export interface Message {
  type: string
  requestId?: string
  seq?: number
  payload: Record<string, unknown>
}

/** `item/agentMessage/delta` and so on, or a type that is no event of codex. */
const nameOf = ({ type, payload }: Message) => (type === 'event' ? String(payload.method) : type)

/** A /ws client that hands each message to whoever waits for its like, and keeps none. */
export class BenchClient {
  readonly #socket: WebSocket
  readonly #answers = new Map<string, (message: Message) => void>()
  readonly #waiting: { name: string; matches(message: Message): boolean; resolve(message: Message): void }[] = []
  #lastId = 0
  /** Deltas of agent messages so far. */
  deltas = 0

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on('message', (data) => this.#onMessage(JSON.parse(String(data)) as Message))
  }

  /** Rejects when the upgrade is refused. */
  static async connect(url: string): Promise<BenchClient> {
    const client = new BenchClient(new WebSocket(url, { maxPayload: 0, perMessageDeflate: false }))
    await once(client.#socket, 'open')
    return client
  }

  /** Resolves with the response's payload; rejects when the answer is an error. */
  async request(type: string, payload: object): Promise<Record<string, unknown>> {
    const requestId = String(++this.#lastId)
    const answer = new Promise<Message>((resolve) => this.#answers.set(requestId, resolve))
    this.#socket.send(JSON.stringify({ type, requestId, payload }))
    const message = await answer
    if (message.type === 'error') throw new Error(`${type}: ${JSON.stringify(message.payload)}`)
    return message.payload
  }

  /** The next message of this name that comes. Wait before you cause it. */
  next(name: string, matches: (message: Message) => boolean = () => true): Promise<Message> {
    return new Promise((resolve) => this.#waiting.push({ name, matches, resolve }))
  }

  async startThread(): Promise<string> {
    return String((await this.request('thread/start', {})).threadId)
  }

  /** Runs one turn to its end. */
  async runTurn(threadId: string, text: string): Promise<void> {
    const completed = this.next('turn/completed')
    await this.request('turn/start', { threadId, input: [{ type: 'text', text }] })
    await completed
  }

  close(): void {
    this.#socket.terminate()
  }

  #onMessage(message: Message): void {
    const { requestId, type } = message
    if (requestId !== undefined && (type === 'response' || type === 'error')) {
      this.#answers.get(requestId)?.(message)
      this.#answers.delete(requestId)
      return
    }
    const name = nameOf(message)
    if (name === 'item/agentMessage/delta') this.deltas++
    const index = this.#waiting.findIndex((waiter) => waiter.name === name && waiter.matches(message))
    if (index !== -1) this.#waiting.splice(index, 1)[0]?.resolve(message)
  }
}
