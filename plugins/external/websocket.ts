import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import fastifyWebsocket, { type WebsocketPluginOptions } from '@fastify/websocket'
import fp from 'fastify-plugin'
import type { WebSocket } from 'ws'

/** Frames above this are refused by the protocol itself (close code 1009), before they cost memory. */
export const MAX_FRAME_BYTES = 32 * 1024 * 1024
/**
 * How long a closing socket may take to answer the close frame; ws's own default is 30 s. A client that has not read for
 * a while gets the frame only behind all that waits for it.
 */
const CLOSE_TIMEOUT_MS = 5_000
/** The same when the gateway itself closes. */
const FAREWELL_MS = 500
const GOING_AWAY = 1001

/** Node keeps the response that a socket waits for on it. */
type AnsweredSocket = Socket & { _httpMessage?: ServerResponse | null }

/** WebSocket upgrades through the router. */
export default fp(
  async function websocketPlugin(fastify) {
    // ws takes closeTimeout; its published types do not know it yet.
    const options: WebsocketPluginOptions['options'] & { closeTimeout: number } = {
      maxPayload: MAX_FRAME_BYTES,
      closeTimeout: CLOSE_TIMEOUT_MS,
      clientTracking: true,
      // Events go to the socket as frames that are ready; what ws negotiates must not make them wrong.
      perMessageDeflate: false,
      // Browsers send the token as a second subprotocol; it must never come back in the handshake.
      handleProtocols: (protocols) => (protocols.has('bearer') ? 'bearer' : false)
    }
    await fastify.register(fastifyWebsocket, {
      options,
      // The sessions close their clients with 1001 and a reason; the default would close them first, with neither.
      preClose: (done) => done(),
      errorHandler: (error, socket) => onError.call(socket, error)
    })

    const server = fastify.websocketServer
    function onError(this: WebSocket, error: Error): void {
      fastify.log.info({ err: error }, 'websocket error')
      this.terminate()
    }
    // The request and the reply of the upgrade would live as long as the socket: the response listens to it …
    server.on('headers', (_headers, { socket }: { socket: AnsweredSocket }) =>
      socket._httpMessage?.detachSocket(socket)
    )
    server.on('connection', (socket) => {
      // … and the upgrade plugin's error listener, which is added behind this event, sees them.
      process.nextTick(replaceErrorListeners, socket, onError)
    })

    fastify.addHook('onClose', async () => {
      const cut = setTimeout(() => {
        for (const socket of server.clients) socket.terminate()
      }, FAREWELL_MS)
      // The sessions have just closed them: a socket that is torn down at once may lose its close frame.
      await Promise.all([...server.clients].map(closed))
      clearTimeout(cut)
      server.close()
    })
  },
  { name: 'websocket' }
)

function replaceErrorListeners(socket: WebSocket, onError: (this: WebSocket, error: Error) => void): void {
  socket.removeAllListeners('error')
  socket.on('error', onError)
}

/** Resolves when the socket is gone. */
async function closed(socket: WebSocket): Promise<void> {
  if (socket.readyState === socket.OPEN) socket.close(GOING_AWAY)
  if (socket.readyState !== socket.CLOSED) await new Promise((resolve) => socket.once('close', resolve))
}
