import { Redis } from 'ioredis'
import { open } from 'lmdb'
import type { Test } from 'tap'
import { startRedis } from '../stores/redis-server.ts'

/** A redis-server for one test; what comes back connects one more client to it. */
export async function startRedisClients(t: Test): Promise<() => Redis> {
  const server = await startRedis()
  const clients: Redis[] = []
  t.teardown(async () => {
    for (const client of clients) client.disconnect()
    await server.stop()
  })
  return () => {
    const client = new Redis(server.url)
    clients.push(client)
    return client
  }
}

/** Opens one more store of a kind, as a second gateway would; all are closed with the test. */
export function opener<S extends { close(): Promise<void> }>(t: Test, openStore: () => Promise<S>): () => Promise<S> {
  return async () => {
    const store = await openStore()
    t.teardown(() => store.close())
    return store
  }
}

/** Puts raw text into an LMDB environment, past whatever store owns it. */
export async function plantInLmdb(dir: string, key: string, text: string): Promise<void> {
  const db = open<string, string>({ path: dir, encoding: 'string', noSubdir: false })
  await db.put(key, text)
  await db.close()
}
