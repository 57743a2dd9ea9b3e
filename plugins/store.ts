import { join } from 'node:path'
import fp from 'fastify-plugin'
import { LmdbSessionStore } from '../src/stores/lmdb-session-store.ts'
import { RedisSessionStore } from '../src/stores/redis-session-store.ts'
import type { SessionStore } from '../src/stores/session-store.ts'

export interface StoreOptions {
  dataDir: string
}

declare module 'fastify' {
  interface FastifyInstance {
    store: SessionStore
  }
}

/** What outlives the gateway: in Redis when it is registered, else embedded under the data directory. */
export default fp<StoreOptions>(
  async function storePlugin(fastify, { dataDir }) {
    const store: SessionStore = fastify.hasDecorator('redis')
      ? new RedisSessionStore(fastify.redis)
      : await LmdbSessionStore.open(join(dataDir, 'store'))
    fastify.decorate('store', store)
    fastify.addHook('onClose', () => store.close())
  },
  { name: 'store' }
)
