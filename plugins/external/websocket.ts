import fastifyWebsocket, { type WebsocketPluginOptions } from '@fastify/websocket'
import fp from 'fastify-plugin'
import type { WebSocket } from 'ws'

/** Frames above this are refused by the protocol itself (close code 1009), before they cost memory. */
export const MAX_FRAME_BYTES = 32 * 1024 * 1024
/** How long a closing socket may take to answer the close frame; ws's own default is 30 s. */
const CLOSE_TIMEOUT_MS = 500
const GOING_AWAY = 1001

export interface WebSocketOptions {
  heartbeatMs: number
}

/** WebSocket upgrades through the router, with a heartbeat: a socket that does not answer one ping by the next is dropped. */
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

    const unanswered = new WeakSet<WebSocket>()
    const server = fastify.websocketServer
    server.on('connection', (socket) => {
      socket.on('pong', () => unanswered.delete(socket))
    })
    const heartbeat = setInterval(() => {
      for (const socket of server.clients) {
        if (unanswered.has(socket)) socket.terminate()
        else {
          unanswered.add(socket)
          socket.ping()
        }
      }
    }, heartbeatMs)

    fastify.addHook('onClose', async () => {
      clearInterval(heartbeat)
      // The sessions have just closed them: a socket that is torn down at once may lose its close frame.
      await Promise.all([...server.clients].map(closed))
      server.close()
    })
  },
  { name: 'websocket' }
)

/** Resolves when the socket is gone, which it is CLOSE_TIMEOUT_MS after its close frame at the latest. */
async function closed(socket: WebSocket): Promise<void> {
  if (socket.readyState === socket.OPEN) socket.close(GOING_AWAY)
  if (socket.readyState !== socket.CLOSED) await new Promise((resolve) => socket.once('close', resolve))
}
