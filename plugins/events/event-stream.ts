import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { SessionClosed } from '../../schemas/events.ts'
import { encodeFrame, messagesIn } from '../../src/journal/frames.ts'
import { readHead } from '../../src/journal/message-head.ts'
import type { ClientSink, ResumeFrom, SessionClient } from '../../src/session/client.ts'
import type { Session } from '../../src/session/session.ts'
import { ThreadFilter } from '../../src/session/thread-filter.ts'
import type { WatchedConnection } from '../clients/index.ts'
import { sentBytes } from '../clients/sent-bytes.ts'

type Clients = FastifyInstance['clients']

export interface EventStreamFrom {
  from: ResumeFrom | undefined
  /** Only what concerns this thread. */
  threadId: string | undefined
}

/** A client that reads nothing would keep the end of its stream, and its connection, for ever. */
const CLOSE_TIMEOUT_MS = 1_000
/** When to come back, as a hint: spread, so that the clients of a gateway that ended do not come as one. */
const MIN_RETRY_MS = 500
const MAX_RETRY_MS = 2_500
const RETRY_AFTER = /retryAfter=(\d+)/
const END = Buffer.from('\n\n')
/** Messages without a number after which a client can resume all the same: their payload names the place. */
const PICTURES = new Set(['session/ready', 'session/snapshot'])

/**
 * One client on /api/events or a thread's: /ws in one direction, each message as a server-sent event. The format is
 * written here: the messages are bytes already, and what a library would add is in the session's clients.
 */
export class EventStream implements ClientSink, WatchedConnection {
  readonly #raw: ServerResponse
  readonly #socket: Socket
  readonly #clients: Clients
  readonly #session: Session
  readonly #client: SessionClient
  readonly #epoch: string
  readonly #filter: ThreadFilter | undefined
  /** A client that resumes keeps its place until it gets the first event after it. */
  readonly #isResumed: boolean
  readonly expiresAtMs: number | undefined
  #isEnded = false
  #cut: NodeJS.Timeout | undefined
  /** The newest number that came by, and the newest that the client was told. */
  #passedSeq = 0
  #toldSeq = 0

  /** Answers the request with a stream, until it closes. */
  static attach(request: FastifyRequest, reply: FastifyReply, clients: Clients, from: EventStreamFrom): void {
    reply.hijack()
    const { raw } = reply
    // The end of the stream ends the connection: an idle one would only hold up the gateway's own end.
    raw.shouldKeepAlive = false
    raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      // nginx would collect the events.
      'x-accel-buffering': 'no'
    })
    const stream = new EventStream(request, raw, clients, from)
    clients.watch(stream)
    raw.once('close', () => stream.#onClose())
  }

  private constructor(
    { session, identity, socket }: FastifyRequest,
    raw: ServerResponse,
    clients: Clients,
    { from, threadId }: EventStreamFrom
  ) {
    this.#raw = raw
    this.#socket = socket
    this.#clients = clients
    this.#session = session
    this.#epoch = session.journal.epoch
    this.#filter = threadId === undefined ? undefined : new ThreadFilter(threadId)
    this.expiresAtMs = identity.expiresAtMs
    this.#isResumed = from !== undefined
    raw.write(`retry: ${retryMs()}\n\n`)
    this.#client = session.attach(this, from)
  }

  get userId(): string {
    return this.#session.userId
  }

  get isOpen(): boolean {
    return !this.#isEnded
  }

  get isPaused(): boolean {
    return false
  }

  get unsentBytes(): number {
    return this.#raw.writableLength
  }

  get bufferedBytes(): number {
    return this.#raw.writableLength
  }

  get sentBytes(): number {
    return sentBytes(this.#socket)
  }

  /** The client says nothing. That the heartbeat left is all the life there is to see. */
  get receivedBytes(): number {
    return this.sentBytes
  }

  send(frames: readonly Buffer[]): void {
    if (this.#isEnded) return
    const parts: Buffer[] = []
    for (const frame of frames) for (const message of messagesIn(frame)) this.#encode(message, parts)
    if (parts.length > 0) this.#raw.write(Buffer.concat(parts))
  }

  onDrained(callback: () => void): void {
    if (this.#raw.writableNeedDrain) this.#raw.once('drain', callback)
    else setImmediate(callback)
  }

  /** A comment; for a client that sees one thread of many, also its place, which moves unseen. */
  ping(): void {
    this.#raw.write(`: heartbeat\n${this.#idOf(this.#passedSeq)}\n`)
  }

  /** Behind what is unsent, as a last event. Ends the delivery too. */
  close(code: number, reason: string): void {
    if (this.#isEnded) return
    const [, seconds] = RETRY_AFTER.exec(reason) ?? []
    if (seconds !== undefined) this.#raw.write(`retry: ${Number(seconds) * 1000 + retryMs()}\n\n`)
    this.send([encodeFrame({ type: 'session/closed', payload: { code, reason } } satisfies SessionClosed)])
    this.#isEnded = true
    this.#client.detach()
    this.#raw.end()
    this.#cut = setTimeout(() => this.terminate(), CLOSE_TIMEOUT_MS)
  }

  terminate(): void {
    this.#raw.destroy()
  }

  #onClose(): void {
    this.#isEnded = true
    clearTimeout(this.#cut)
    this.#clients.ignore(this)
    this.#session.detach(this.#client)
  }

  #encode(message: Buffer, parts: Buffer[]): void {
    const { type, seq = this.#placeOf(type, message) } = readHead(message)
    if (seq !== undefined) this.#passedSeq = seq
    const shown = this.#filter ? this.#filter.pass(message) : message
    if (!shown) return
    const id = seq === undefined ? '' : this.#idOf(seq)
    parts.push(Buffer.from(`${id}event: ${type}\ndata: `, 'latin1'), shown, END)
  }

  #placeOf(type: string, message: Buffer): number | undefined {
    if (!PICTURES.has(type) || (type === 'session/ready' && this.#isResumed)) return undefined
    return (JSON.parse(message.toString('utf8')) as { payload: { seq: number } }).payload.seq
  }

  /** The line that moves the client's place to this number, unless it is there. */
  #idOf(seq: number): string {
    if (seq === this.#toldSeq) return ''
    this.#toldSeq = seq
    return `id: ${this.#epoch}:${seq}\n`
  }
}

function retryMs(): number {
  return Math.round(MIN_RETRY_MS + Math.random() * (MAX_RETRY_MS - MIN_RETRY_MS))
}
