import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import type { Identity } from '../../schemas/identity.ts'
import type { ClientSink, JournalPosition, SessionClient } from '../../src/session/client.ts'
import { MessageDoor } from '../../src/session/message-door.ts'

/** Close codes of our own (4000-4999), with HTTP's number behind the 4. */
const TOKEN_EXPIRED = 4401
const TEXT = { binary: false }
/** setTimeout fires at once beyond this; a token that lives longer is looked at again then. */
const MAX_TIMER_MS = 2_147_483_647

/** One socket on /ws: its place in the session, its token's life, its end. */
export class WebSocketConnection {
  readonly #request: FastifyRequest
  readonly #client: SessionClient
  readonly #door: MessageDoor
  #expiry: NodeJS.Timeout | undefined

  constructor(
    socket: WebSocket,
    request: FastifyRequest,
    auth: FastifyInstance['auth'],
    from: JournalPosition | undefined
  ) {
    const { session, identity } = request
    this.#request = request
    this.#client = session.attach(socketSink(socket, request), from)
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

  onMessage(data: Buffer): void {
    void this.#door.handle(data)
  }

  onClose(): void {
    clearTimeout(this.#expiry)
    this.#request.session.detach(this.#client)
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
    send(messages) {
      // One write for the whole batch: a system call per message would cost more than all the rest.
      raw.cork()
      for (const message of messages) socket.send(message, TEXT)
      raw.uncork()
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
