import fp from 'fastify-plugin'

/** What answers are left to write when the sessions have ended gets this long; then every connection is cut. */
const LAST_ANSWERS_MS = 250

/** Bounds the close: a peer that has sent half a request would else keep the server open for a minute. */
export default fp(
  async function connectionsPlugin(fastify) {
    let cut: NodeJS.Timeout | undefined
    fastify.addHook('preClose', async () => {
      cut = setTimeout(() => fastify.server.closeAllConnections(), LAST_ANSWERS_MS)
    })
    fastify.addHook('onClose', async () => clearTimeout(cut))
  },
  // After the sessions: hooks before the close run in the order of registration.
  { name: 'connections', dependencies: ['sessions'] }
)
