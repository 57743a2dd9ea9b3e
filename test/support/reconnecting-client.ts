import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { CuttableProxy } from './cuttable-proxy.ts'
import { type ConnectionCheck, EventLedger, type Numbered, type SeqRange } from './event-ledger.ts'
import type { Teardown } from './gateway.ts'
import type { Received } from './ws-client.ts'

/** How it says where it stands. */
export interface ConnectPlan {
  by: 'query' | 'message'
  isCompact: boolean
}

/**
 * `clean`: a WebSocket close. `abrupt`: the socket is gone. `half-open`: the network is gone, and it comes back while
 * the old connection still hangs. `overlap`: it comes back first and lets go of the old connection then.
 */
export type Cut = 'clean' | 'abrupt' | 'half-open' | 'overlap'

/** A million events take a while to read. */
const ANSWER_TIMEOUT_MS = process.env.FULL === '1' ? 300_000 : 60_000
const TAKE_PAUSE_MS = 50
const RESUME_ID = 'resume'
const DELTA = /delta$/i

interface Waiter {
  isDone(): boolean
  resolve(): void
}

/** A client that reconnects with its last number, as the contract says, and keeps a ledger of what it got. */
export class ReconnectingClient {
  ledger = new EventLedger(0)
  epoch = ''
  /** Events of this connection so far. */
  arrived = 0
  connections = 0
  /** Everything without a number, in order. */
  readonly others: Received[] = []
  /** Everything with a number, save deltas, in order. */
  readonly events: Numbered[] = []
  readonly #address: () => string
  readonly #query: string
  /** Connections that it no longer listens to and that hang. */
  readonly #left: WebSocket[] = []
  #socket: WebSocket | undefined
  #requests = 0
  #waiters: Waiter[] = []

  constructor(t: Teardown, address: () => string, query = 'userId=alice') {
    this.#address = address
    this.#query = query
    t.teardown(() => {
      for (const socket of [...this.#left, this.#socket]) socket?.terminate()
    })
  }

  get raw(): Socket {
    return (this.#socket as unknown as { _socket: Socket })._socket
  }

  get isOpen(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN
  }

  /** Connects for the first time: its ledger begins at `since`, or where the session stands. */
  async start(since?: number): Promise<void> {
    await this.#open('', (ready) => {
      this.epoch = ready.payload.epoch
      this.ledger = new EventLedger(ready.payload.seq)
      return this.ledger.connection('position', ready.payload.seq, false)
    })
    if (since === undefined) return
    this.#socket?.removeAllListeners('message')
    this.#socket?.terminate()
    this.standAt(this.epoch, since)
    await this.connect({ by: 'query', isCompact: false })
  }

  /** A client that was there before and has everything up to `since`; it connects with {@link connect}. */
  standAt(epoch: string, since: number): void {
    this.epoch = epoch
    this.ledger = new EventLedger(since)
  }

  /** Connects again where it stands. */
  async connect({ by, isCompact }: ConnectPlan): Promise<void> {
    const { epoch, ledger } = this
    const since = ledger.position
    if (by === 'query') {
      const position = `&epoch=${epoch}&since=${since}${isCompact ? '&compact=true' : ''}`
      await this.#open(position, (ready) => ledger.connection('position', ready.payload.seq, isCompact))
      return
    }
    await this.#open('', (ready) => ledger.connection('resume', ready.payload.seq, isCompact))
    const payload = { epoch, since, ...(isCompact ? { compact: true } : {}) }
    this.#socket?.send(JSON.stringify({ type: 'session/resume', requestId: RESUME_ID, payload }))
  }

  /** Ends the connection, or, with `half-open` and `overlap`, no longer listens to it. */
  async cut(cut: Cut, proxy?: CuttableProxy, how: 'discard' | 'hold' = 'discard'): Promise<void> {
    const socket = this.#socket as WebSocket
    socket.removeAllListeners('message')
    if (cut === 'half-open') proxy?.last().silence(how)
    if (cut === 'half-open' || cut === 'overlap') this.#left.push(socket)
    if (cut === 'abrupt') socket.terminate()
    if (cut === 'clean' && socket.readyState === WebSocket.OPEN) {
      socket.close()
      await once(socket, 'close')
    }
  }

  /** Lets go of connections that hang on this side. */
  letGo(): void {
    for (const socket of this.#left.splice(0)) socket.terminate()
  }

  /** Sends a message; resolves with the payload of its response, rejects when it is an error. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into payloads of many shapes
  async request(type: string, payload: object): Promise<any> {
    const answer = await this.ask(type, payload)
    if (answer?.type !== 'response') throw new Error(`${type}: ${JSON.stringify(answer?.payload)}`)
    return answer.payload
  }

  /** Sends a message; resolves with its response or error, or undefined when the connection ended before. */
  async ask(type: string, payload: object): Promise<Received | undefined> {
    const requestId = `req-${++this.#requests}`
    this.#socket?.send(JSON.stringify({ type, requestId, payload }))
    const answered = () => this.others.find((other) => other.requestId === requestId)
    await this.untilOrEnd(() => answered() !== undefined, type)
    return answered()
  }

  /** Starts a turn and waits for its end; resolves with its id. */
  async playTurn(threadId: string, text: string): Promise<string> {
    const { turnId } = await this.request('turn/start', { threadId, input: [{ type: 'text', text }] })
    await this.until(() => this.ledger.hasTurnEnd(turnId), `the end of "${text}"`)
    return turnId
  }

  /** Reads from a paused connection until so many events more have come, or none are left to come for a moment. */
  async take(events: number): Promise<void> {
    const enough = this.arrived + events
    this.raw.resume()
    for (let before = -1; this.arrived < enough && this.arrived > before; await delay(TAKE_PAUSE_MS))
      before = this.arrived
    this.raw.pause()
  }

  /** Looks again whether what is waited for is there. */
  wake(): void {
    this.#settle()
  }

  /** Resolves when `isDone`; rejects when the connection ends before, or when it takes too long. */
  async until(isDone: () => boolean, what: string): Promise<void> {
    await this.untilOrEnd(isDone, what)
    if (!isDone()) throw new Error(`the connection ended before ${what}; at ${this.ledger.position}`)
  }

  /** Resolves when `isDone`, or when the connection has ended. Rejects when it takes too long. */
  untilOrEnd(isDone: () => boolean, what: string): Promise<void> {
    if (isDone() || !this.isOpen) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const { position } = this.ledger
        reject(new Error(`not within ${ANSWER_TIMEOUT_MS} ms: ${what}; at ${position}, ${this.arrived} arrived`))
      }, ANSWER_TIMEOUT_MS)
      this.#waiters.push({
        isDone,
        resolve: () => {
          clearTimeout(timer)
          resolve()
        }
      })
    })
  }

  async #open(position: string, begin: (ready: Received) => ConnectionCheck): Promise<void> {
    const socket = new WebSocket(`ws://${this.#address()}/ws?${this.#query}${position}`)
    this.#socket = socket
    this.arrived = 0
    this.connections++
    let check: ConnectionCheck | undefined
    let onReady = () => {}
    const ready = new Promise<void>((resolve) => {
      onReady = resolve
    })
    socket.on('error', () => {})
    socket.on('close', () => this.#settle())
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString('utf8')) as Received
      if (message.type === 'session/ready') {
        check = begin(message)
        onReady()
      } else if (message.seq !== undefined) {
        this.arrived++
        if (!DELTA.test(message.payload.method)) this.events.push(message as Numbered)
        check?.take(message as Numbered, data)
      } else this.#onOther(message, check)
      this.#settle()
    })
    await Promise.race([
      ready,
      once(socket, 'close').then(() => {
        throw new Error('closed before session/ready')
      })
    ])
  }

  #onOther(message: Received, check: ConnectionCheck | undefined): void {
    this.others.push(message)
    if (message.type === 'session/gap') this.#onGap(message.payload, check)
    if (message.type === 'error' && message.requestId === RESUME_ID)
      this.ledger.fault(`refused: ${JSON.stringify(message.payload)}`)
  }

  /** The epoch of a client's position changes with a gap, not with session/ready: what it has may not be of the new one. */
  #onGap(gap: SeqRange & { epoch: string }, check: ConnectionCheck | undefined): void {
    check?.takeGap(gap, gap.epoch !== this.epoch)
    this.epoch = gap.epoch
  }

  #settle(): void {
    const isOver = !this.isOpen
    const [settled, rest] = [[], []] as [Waiter[], Waiter[]]
    for (const waiter of this.#waiters) (isOver || waiter.isDone() ? settled : rest).push(waiter)
    this.#waiters = rest
    for (const waiter of settled) waiter.resolve()
  }
}
