import type { Socket } from 'node:net'
import fp from 'fastify-plugin'

/** What answers and close frames are left to exchange when the sessions have ended gets this long. */
const FAREWELL_MS = 750

/** Bounds the close: a peer that sent half a request, or keeps what was refused open, would else hold the server. */
export default fp(
  async function connectionsPlugin(fastify) {
    const { server, websocketServer } = fastify
    const open = new Set<Socket>()
    let cut: NodeJS.Timeout | undefined
    // One function for all: there are thousands of connections, most of them idle.
    function forget(this: Socket): void {
      open.delete(this)
    }
    server.on('connection', (socket: Socket) => {
      open.add(socket)
      socket.on('close', forget)
    })
    // From here on the WebSocket server has it among its clients.
    websocketServer.on('headers', (_headers, { socket }) => {
      open.delete(socket)
      socket.removeListener('close', forget)
    })
    fastify.addHook('preClose', async () => {
      cut = setTimeout(() => {
        for (const socket of open) socket.destroy()
        for (const socket of websocketServer.clients) socket.terminate()
      }, FAREWELL_MS)
    })
    fastify.addHook('onClose', async () => clearTimeout(cut))
  },
  // After the sessions: hooks before the close run in the order of registration.
  { name: 'connections', dependencies: ['sessions', 'websocket'] }
)
