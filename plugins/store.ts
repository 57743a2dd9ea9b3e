import { join } from 'node:path'
import fp from 'fastify-plugin'
import type { DocumentStore } from '../src/stores/document-store.ts'
import type { JournalStore } from '../src/stores/journal-store.ts'
import { LmdbDocumentStore } from '../src/stores/lmdb-document-store.ts'
import { LmdbSessionStore } from '../src/stores/lmdb-session-store.ts'
import { RedisDocumentStore } from '../src/stores/redis-document-store.ts'
import { RedisJournalStore } from '../src/stores/redis-journal-store.ts'
import { RedisSessionStore } from '../src/stores/redis-session-store.ts'
import { SegmentJournalStore } from '../src/stores/segment-journal-store.ts'
import type { SessionStore } from '../src/stores/session-store.ts'

export interface StoreOptions {
  dataDir: string
}

declare module 'fastify' {
  interface FastifyInstance {
    store: SessionStore
    documents: DocumentStore
    journals: JournalStore
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

    const documents: DocumentStore = fastify.hasDecorator('redis')
      ? new RedisDocumentStore(fastify.redis)
      : await LmdbDocumentStore.open(join(dataDir, 'documents'))
    fastify.decorate('documents', documents)
    fastify.addHook('onClose', () => documents.close())

    const journals: JournalStore = fastify.hasDecorator('redis')
      ? new RedisJournalStore(fastify.redis)
      : await SegmentJournalStore.open(join(dataDir, 'journal.v2'))
    fastify.decorate('journals', journals)
    fastify.addHook('onClose', () => journals.close())
  },
  { name: 'store' }
)
