import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { RawData, WebSocket } from 'ws'
import type { ResumeFrom } from '../../src/session/client.ts'
import type { Session } from '../../src/session/session.ts'
import { WebSocketConnection } from './web-socket-connection.ts'

export interface Clients {
  /** preHandler hook: opens the caller's session as `request.session`. */
  openSession(request: FastifyRequest): Promise<void>
  /** Attaches an upgraded socket that speaks the /ws messages. */
  attachWebSocket(socket: WebSocket, request: FastifyRequest, from: ResumeFrom | undefined): void
}

declare module 'fastify' {
  interface FastifyInstance {
    clients: Clients
  }
  interface FastifyRequest {
    session: Session
  }
}

/** Clients that stay: binds sockets to the sessions of their users. */
export default fp(
  async function clientsPlugin(fastify) {
    const { auth, sessions } = fastify
    fastify.decorateRequest('session', null as unknown as Session)
    fastify.decorate('clients', {
      async openSession(request) {
        request.session = await sessions.open(request.identity.userId)
      },
      attachWebSocket(socket, request, from) {
        const connection = new WebSocketConnection(socket, request, auth, from)
        socket.on('message', (data: RawData, isBinary: boolean) => connection.onMessage(data as Buffer, isBinary))
        socket.on('close', () => connection.onClose())
      }
    })
  },
  { name: 'clients', dependencies: ['auth', 'sessions', 'websocket'] }
)
