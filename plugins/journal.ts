import fp from 'fastify-plugin'
import type { JournalBounds } from '../src/journal/journal.ts'
import { JournalWriter } from '../src/journal/journal-writer.ts'

/** How often the journals of users who never came back are looked over for what is too old. */
const EXPIRE_INTERVAL_MS = 60 * 60 * 1000

declare module 'fastify' {
  interface FastifyInstance {
    journalWriter: JournalWriter
  }
}

/** Has the sessions' journals written to the store, and what is too old removed from it. */
export default fp<JournalBounds>(
  async function journalPlugin(fastify, bounds) {
    const { journals: store, log } = fastify
    const writer = new JournalWriter({
      store,
      bounds,
      onHealth: (isHealthy, reason) => {
        if (isHealthy) log.info('journals are written again')
        else log.error({ reason }, 'journals cannot be written; events are kept in memory, the oldest go first')
      },
      onDamaged: (userId, { firstSeq, lastSeq }) => {
        log.error({ userId, firstSeq, lastSeq }, 'a part of a stored journal is damaged; its readers are told of a gap')
      }
    })
    fastify.decorate('journalWriter', writer)
    const expire = () =>
      store.expire(Date.now() - bounds.maxAgeMs).catch((error: Error) => {
        log.warn({ err: error }, 'old journals were not removed')
      })
    let expiring: Promise<void> | undefined
    // Not before all is registered: a second gateway on this directory is refused by its audit log, and must not have
    // removed anything by then.
    fastify.addHook('onReady', async () => {
      expiring = expire()
    })
    const timer = setInterval(() => {
      expiring = (expiring ?? Promise.resolve()).then(expire)
    }, EXPIRE_INTERVAL_MS)

    if (fastify.hasDecorator('redis')) {
      const onReady = () => writer.distrustStore()
      fastify.redis.on('ready', onReady)
      fastify.addHook('onClose', async () => void fastify.redis.off('ready', onReady))
    }
    fastify.addHook('onClose', async () => {
      clearInterval(timer)
      await writer.close()
      await expiring
    })
  },
  { name: 'journal', dependencies: ['store'] }
)
