import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { WebSocket } from 'ws'
import { NativeDoor } from '../../src/native/native-door.ts'
import type { ResumeFrom } from '../../src/session/client.ts'
import { MessageDoor } from '../../src/session/message-door.ts'
import type { Session } from '../../src/session/session.ts'
import { ConnectionWatch, type WatchedConnection } from './connection-watch.ts'
import { WebSocketConnection } from './web-socket-connection.ts'

export type { WatchedConnection } from './connection-watch.ts'

/** How late a stall or the end of a token may be noticed. */
const MAX_LOOK_INTERVAL_MS = 1_000

export interface ClientsOptions {
  /** Between the pings of a connection; one that answers none is dropped within two. */
  heartbeatMs: number
  /** A client that reads nothing of what waits for it for so long is closed. */
  stallTimeoutMs: number
}

export interface Clients {
  /** preHandler hook: opens the caller's session as `request.session`. */
  openSession(request: FastifyRequest): Promise<void>
  /** Attaches an upgraded socket that speaks the /ws messages. */
  attachWebSocket(socket: WebSocket, request: FastifyRequest, from: ResumeFrom | undefined): void
  /** Attaches an upgraded socket that speaks codex's own protocol. */
  attachNative(socket: WebSocket, request: FastifyRequest): void
  /** Watches a connection of another kind, until {@link ignore}. */
  watch(connection: WatchedConnection): void
  ignore(connection: WatchedConnection): void
}

declare module 'fastify' {
  interface FastifyInstance {
    clients: Clients
  }
  interface FastifyRequest {
    session: Session
  }
}

/** Clients that stay: binds sockets to the sessions of their users, and ends those that are dead, stalled or expired. */
export default fp<ClientsOptions>(
  async function clientsPlugin(fastify, { heartbeatMs, stallTimeoutMs }) {
    const { auth, sessions } = fastify
    const watch = new ConnectionWatch({ stallTimeoutMs, log: fastify.log })
    fastify.decorateRequest('session', null as unknown as Session)
    fastify.decorate('clients', {
      async openSession(request) {
        request.session = await sessions.open(request.identity.userId)
      },
      attachWebSocket(socket, { session, identity, raw }, from) {
        WebSocketConnection.attach(socket, raw.socket, watch, (sink) => {
          return new MessageDoor(session, session.attach(sink, from), identity, auth.refresh)
        })
      },
      attachNative(socket, { session, identity, raw, log }) {
        WebSocketConnection.attach(socket, raw.socket, watch, (sink) => {
          return new NativeDoor({ session, sink, identity, log })
        })
      },
      watch: (connection) => watch.add(connection),
      ignore: (connection) => watch.delete(connection)
    })

    // After what has come in while the gateway was busy: an answer that nobody has read yet counts.
    const heartbeat = setInterval(() => setImmediate(() => watch.beat()), heartbeatMs)
    const look = setInterval(
      () => watch.look(performance.now(), Date.now()),
      Math.min(stallTimeoutMs / 4, MAX_LOOK_INTERVAL_MS)
    )
    fastify.addHook('onClose', async () => {
      clearInterval(heartbeat)
      clearInterval(look)
    })
  },
  { name: 'clients', dependencies: ['auth', 'sessions', 'websocket'] }
)
