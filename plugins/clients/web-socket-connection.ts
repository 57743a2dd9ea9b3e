import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import type { Identity } from '../../schemas/identity.ts'
import type { ClientSink, ResumeFrom, SessionClient } from '../../src/session/client.ts'
import { MessageDoor } from '../../src/session/message-door.ts'

/** Close codes of our own (4000-4999), with HTTP's number behind the 4. */
const TOKEN_EXPIRED = 4401
/** setTimeout fires at once beyond this; a token that lives longer is looked at again then. */
const MAX_TIMER_MS = 2_147_483_647

/** Messages of one client that are worked on at once; the rest waits in its socket, not in our memory. */
const MAX_IN_WORK = 64
/** A client that does not read its answers is not read from either. */
const MAX_UNREAD_BYTES = 1024 * 1024

interface Message {
  data: Buffer
  isBinary: boolean
}

/** One socket on /ws: its place in the session, its token's life, its end. */
export class WebSocketConnection {
  readonly #socket: WebSocket
  readonly #sink: ClientSink
  readonly #request: FastifyRequest
  readonly #client: SessionClient
  readonly #door: MessageDoor
  #expiry: NodeJS.Timeout | undefined
  readonly #waiting: Message[] = []
  #inWork = 0
  #isDraining = false

  constructor(
    socket: WebSocket,
    request: FastifyRequest,
    auth: FastifyInstance['auth'],
    from: ResumeFrom | undefined
  ) {
    const { session, identity } = request
    this.#request = request
    this.#socket = socket
    this.#sink = socketSink(socket, request)
    this.#client = session.attach(this.#sink, from)
    this.#door = new MessageDoor({
      session,
      client: this.#client,
      identity,
      refresh: async (token) => {
        const fresh = await auth.refresh(request, token)
        this.#watchExpiry(fresh)
        return fresh
      }
    })
    this.#watchExpiry(identity)
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    this.#waiting.push({ data, isBinary })
    this.#work()
  }

  onClose(): void {
    clearTimeout(this.#expiry)
    this.#request.session.detach(this.#client)
  }

  #work(): void {
    while (this.#inWork < MAX_IN_WORK && this.#sink.bufferedBytes <= MAX_UNREAD_BYTES) {
      const message = this.#waiting.shift()
      if (!message) {
        this.#socket.resume()
        return
      }
      this.#inWork++
      void this.#door.handle(message.data, message.isBinary).then(() => {
        this.#inWork--
        this.#work()
      })
    }
    this.#socket.pause()
    if (this.#inWork === 0) this.#workWhenDrained()
  }

  #workWhenDrained(): void {
    if (this.#isDraining) return
    this.#isDraining = true
    this.#sink.onDrained(() => {
      this.#isDraining = false
      this.#work()
    })
  }

  #watchExpiry(identity: Identity): void {
    clearTimeout(this.#expiry)
    if (identity.expiresAtMs === undefined) return
    const leftMs = identity.expiresAtMs - Date.now()
    this.#expiry = setTimeout(
      () => {
        if (leftMs > MAX_TIMER_MS) this.#watchExpiry(identity)
        else this.#client.close(TOKEN_EXPIRED, 'the token has expired; reconnect with a fresh one')
      },
      Math.min(Math.max(leftMs, 0), MAX_TIMER_MS)
    )
  }
}

function socketSink(socket: WebSocket, request: FastifyRequest): ClientSink {
  const raw = request.raw.socket
  return {
    send(frames) {
      // Past ws, which would copy and head each message anew; after its close frame nothing may follow.
      if (socket.readyState !== socket.OPEN) return
      // One system call for all of them.
      if (frames.length > 1) raw.cork()
      for (const frame of frames) raw.write(frame)
      if (frames.length > 1) raw.uncork()
    },
    get bufferedBytes() {
      return socket.bufferedAmount
    },
    onDrained(callback) {
      if (raw.writableNeedDrain) raw.once('drain', callback)
      else setImmediate(callback)
    },
    close(code, reason) {
      socket.close(code, reason)
    }
  }
}
