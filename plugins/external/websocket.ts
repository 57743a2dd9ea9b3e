import fastifyWebsocket, { type WebsocketPluginOptions } from '@fastify/websocket'
import fp from 'fastify-plugin'
import type { WebSocket } from 'ws'

/** Frames above this are refused by the protocol itself (close code 1009), before they cost memory. */
export const MAX_FRAME_BYTES = 32 * 1024 * 1024
/** How long a closing socket may take to answer the close frame; ws's own default is 30 s. */
const CLOSE_TIMEOUT_MS = 500
const MISSED_PONGS = 2

export interface WebSocketOptions {
  heartbeatMs: number
}

/** WebSocket upgrades through the router, with a heartbeat: a socket that misses two pongs is dropped. */
export default fp<WebSocketOptions>(
  async function websocketPlugin(fastify, { heartbeatMs }) {
    // ws takes closeTimeout; its published types do not know it yet.
    const options: WebsocketPluginOptions['options'] & { closeTimeout: number } = {
      maxPayload: MAX_FRAME_BYTES,
      closeTimeout: CLOSE_TIMEOUT_MS,
      clientTracking: true,
      // Browsers send the token as a second subprotocol; it must never come back in the handshake.
      handleProtocols: (protocols) => (protocols.has('bearer') ? 'bearer' : false)
    }
    await fastify.register(fastifyWebsocket, {
      options,
      // The sessions close their clients with 1001 and a reason; the default would close them first, with neither.
      preClose: (done) => done(),
      errorHandler: (error, socket, request) => {
        request.log.info({ err: error }, 'websocket error')
        socket.terminate()
      }
    })

    const missed = new WeakMap<WebSocket, number>()
    const server = fastify.websocketServer
    server.on('connection', (socket) => {
      missed.set(socket, 0)
      socket.on('pong', () => missed.set(socket, 0))
    })
    const heartbeat = setInterval(() => {
      for (const socket of server.clients) {
        const count = missed.get(socket) ?? 0
        if (count >= MISSED_PONGS) socket.terminate()
        else {
          missed.set(socket, count + 1)
          socket.ping()
        }
      }
    }, heartbeatMs)

    fastify.addHook('onClose', async () => {
      clearInterval(heartbeat)
      for (const socket of server.clients) socket.terminate()
      server.close()
    })
  },
  { name: 'websocket' }
)
