import type { Socket } from 'node:net'
import fp from 'fastify-plugin'

/** What answers and close frames are left to exchange when the sessions have ended gets this long. */
const FAREWELL_MS = 750

/** Bounds the close: a peer that sent half a request, or keeps what was refused open, would else hold the server. */
export default fp(
  async function connectionsPlugin(fastify) {
    const open = new Set<Socket>()
    let cut: NodeJS.Timeout | undefined
    fastify.server.on('connection', (socket: Socket) => {
      open.add(socket)
      socket.once('close', () => open.delete(socket))
    })
    fastify.addHook('preClose', async () => {
      cut = setTimeout(() => {
        for (const socket of open) socket.destroy()
      }, FAREWELL_MS)
    })
    fastify.addHook('onClose', async () => clearTimeout(cut))
  },
  // After the sessions: hooks before the close run in the order of registration.
  { name: 'connections', dependencies: ['sessions'] }
)
