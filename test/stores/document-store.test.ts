import { spawnSync } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import externalRedis from '../../plugins/external/redis.ts'
import storePlugin from '../../plugins/store.ts'
import type { JsonValue } from '../../src/json.ts'
import type { Collection, DocumentStore } from '../../src/stores/document-store.ts'
import { LmdbDocumentStore } from '../../src/stores/lmdb-document-store.ts'
import { documentIdsKey, documentsKey, RedisDocumentStore } from '../../src/stores/redis-document-store.ts'
import { opener, plantInLmdb, startRedisClients } from '../support/store-backends.ts'
import { redisMissing, startRedis } from './redis-server.ts'

interface Backend {
  /** Another store on the same data, as a second gateway would have. */
  another(): Promise<DocumentStore>
  /** Puts raw text where the document belongs. */
  plant(collection: Collection, id: string, text: string): Promise<void>
}

async function startLmdb(t: Test): Promise<Backend> {
  const dir = join(t.testdir({}), 'documents.v1')
  return {
    another: opener(t, () => LmdbDocumentStore.open(dir)),
    plant: (collection, id, text) => plantInLmdb(dir, `${collection}/${id}`, text)
  }
}

async function startRedisBackend(t: Test): Promise<Backend> {
  const connect = await startRedisClients(t)
  return {
    another: async () => new RedisDocumentStore(connect()),
    async plant(collection, id, text) {
      const client = connect()
      await client.hset(documentsKey(collection), id, text)
      await client.zadd(documentIdsKey(collection), 0, id)
    }
  }
}

async function idsOf(store: DocumentStore, collection: Collection, prefix?: string): Promise<string[]> {
  return (await store.list(collection, prefix)).map(({ id }) => id)
}

async function suite(t: Test, start: (t: Test) => Promise<Backend>): Promise<void> {
  await t.test('gives back any JSON value as it was put', async (t) => {
    const store = await (await start(t)).another()
    const values: JsonValue[] = [
      null,
      false,
      0,
      -1.5e-9,
      '',
      'ü\u0000\n💡\ud800',
      [],
      {},
      [[null], { a: [] }],
      JSON.parse('{"__proto__":{"x":1},"":2}'),
      { big: 'é'.repeat(1_000_000) }
    ]
    for (const value of values) {
      await store.put('session-rules', 'w', value)
      t.same(JSON.stringify(await store.get('session-rules', 'w')), JSON.stringify(value))
    }
    t.equal((await store.list('session-rules')).length, 1, 'a put replaces')
  })

  await t.test('a document is known by its collection and its whole id', async (t) => {
    const store = await (await start(t)).another()
    await store.put('user-policies', 'ana', { of: 'policies' })
    await store.put('session-rules', 'ana', { of: 'rules' })
    t.same(await store.get('user-policies', 'ana'), { of: 'policies' })
    t.same(await store.get('session-rules', 'ana'), { of: 'rules' })
    t.equal(await store.get('audit-heads', 'ana'), undefined)
    t.equal(await store.get('user-policies', 'an'), undefined)
    t.equal(await store.get('user-policies', 'ana '), undefined)
    t.same(await store.list('audit-heads'), [])
    t.equal(await store.delete('user-policies', 'ana'), true)
    t.same(await store.list('session-rules'), [{ id: 'ana', value: { of: 'rules' } }])
  })

  await t.test('lists what starts with the prefix, in order of id', async (t) => {
    const store = await (await start(t)).another()
    const last = '~'.repeat(256)
    const ids = [' ', '*', '/', 'B', '[ab]', 'a', 'a b', 'a*', 'a-1', 'a/1', 'a/2', 'a/~', 'a0', 'ab', 'z|z', '~', last]
    for (const id of [...ids].reverse()) await store.put('session-rules', id, id)
    await store.put('audit-heads', 'a/9', 'elsewhere')
    await store.put('user-policies', 'a/0', 'elsewhere')

    t.same(
      await store.list('session-rules'),
      ids.map((id) => ({ id, value: id }))
    )
    t.same(await idsOf(store, 'session-rules', ''), ids)
    t.same(await idsOf(store, 'session-rules', 'a/'), ['a/1', 'a/2', 'a/~'])
    t.same(
      await idsOf(store, 'session-rules', 'a'),
      ids.filter((id) => id.startsWith('a'))
    )
    t.same(await idsOf(store, 'session-rules', 'a*'), ['a*'], 'a prefix is no pattern')
    t.same(await idsOf(store, 'session-rules', '['), ['[ab]'])
    t.same(await idsOf(store, 'session-rules', '~'), ['~', last])
    t.same(await idsOf(store, 'session-rules', last), [last])
    t.same(await idsOf(store, 'session-rules', 'b'), [])
  })

  await t.test('one of racing deletes finds the document, and it can be put again', async (t) => {
    const backend = await start(t)
    const stores = [await backend.another(), await backend.another()] as const
    t.equal(await stores[0].delete('session-rules', 'w'), false)
    await stores[0].put('session-rules', 'w', 1)
    const racing = Array.from({ length: 20 }, (_, i) => (i % 2 ? stores[1] : stores[0]).delete('session-rules', 'w'))
    t.same((await Promise.all(racing)).filter(Boolean), [true])
    t.equal(await stores[1].get('session-rules', 'w'), undefined)
    t.same(await stores[1].list('session-rules'), [])
    await stores[1].put('session-rules', 'w', 2)
    t.equal(await stores[0].get('session-rules', 'w'), 2)
    t.same(await stores[0].list('session-rules'), [{ id: 'w', value: 2 }])
  })

  await t.test('another gateway reads what one has put, also after the first one closed', async (t) => {
    const backend = await start(t)
    const [one, two] = [await backend.another(), await backend.another()]
    await one.put('session-rules', 'w', ['kept'])
    t.same(await two.get('session-rules', 'w'), ['kept'])
    await one.close()
    await two.close()
    const later = await backend.another()
    t.same(await later.get('session-rules', 'w'), ['kept'])
    t.same(await later.list('session-rules', 'w'), [{ id: 'w', value: ['kept'] }])
  })

  await t.test(
    'a stored document that is not JSON is an error that names it, and can be replaced or deleted',
    async (t) => {
      const backend = await start(t)
      const store = await backend.another()
      await store.put('session-rules', 'fine', 1)
      const expected = { code: 'CC_STORED_DOCUMENT_INVALID', message: /"bad" of session-rules is not JSON/ }
      for (const text of ['', '{"url":', 'undefined', '1 2']) {
        await backend.plant('session-rules', 'bad', text)
        await t.rejects(store.get('session-rules', 'bad'), expected)
        await t.rejects(store.list('session-rules'), expected)
        t.same(await store.list('session-rules', 'f'), [{ id: 'fine', value: 1 }], 'others are not held up')
      }
      t.equal(await store.delete('session-rules', 'bad'), true)
      await backend.plant('session-rules', 'bad', '{')
      await store.put('session-rules', 'bad', 2)
      t.equal(await store.get('session-rules', 'bad'), 2)
    }
  )

  await t.test('refuses an id or prefix that no document can have, and works on', async (t) => {
    const store = await (await start(t)).another()
    const expected = { code: 'CC_INVALID_DOCUMENT_ID' }
    for (const id of ['x'.repeat(257), 'x'.repeat(5_000), 'ü', 'a\0', 'a\n', '\x7f', 'a\ud83d']) {
      await t.rejects(store.put('session-rules', id, 1), expected)
      await t.rejects(store.get('session-rules', id), expected)
      await t.rejects(store.delete('session-rules', id), expected)
      await t.rejects(store.list('session-rules', id), expected)
    }
    await t.rejects(store.put('session-rules', '', 1), expected)
    await t.rejects(store.get('session-rules', ''), expected)
    await t.rejects(store.delete('session-rules', ''), expected)
    t.same(await store.list('session-rules'), [])
    await store.put('session-rules', 'x'.repeat(256), 1)
    t.same(await idsOf(store, 'session-rules'), ['x'.repeat(256)])
  })
}

t.test('lmdb', (t) => suite(t, startLmdb))
t.test('redis', { skip: redisMissing }, (t) => suite(t, startRedisBackend))

/** Runs `script` in a process of its own, with `store` open on `dir`; `shell` runs before it (a ulimit). */
function runWithStore(dir: string, script: string, shell = 'true') {
  const module = new URL('../../src/stores/lmdb-document-store.ts', import.meta.url).href
  const whole = `
    process.on('SIGXFSZ', () => {})
    const { LmdbDocumentStore } = await import(${JSON.stringify(module)})
    const store = await LmdbDocumentStore.open(${JSON.stringify(dir)})
    ${script}`
  const args = ['--import', 'tsx', '--input-type=module', '-e', whole]
  return spawnSync('bash', ['-c', `${shell}; exec "$0" "$@"`, process.execPath, ...args], { encoding: 'utf8' })
}

t.test('what resolved survives a SIGKILL of its process (lmdb)', async (t) => {
  const dir = join(t.testdir({}), 'documents')
  const child = runWithStore(
    dir,
    `for (let i = 0; i < 20; i++) await store.put('session-rules', 'w' + i, i)
    await store.delete('session-rules', 'w7')
    process.kill(process.pid, 'SIGKILL')`
  )
  t.equal(child.signal, 'SIGKILL', child.stderr)
  const store = await LmdbDocumentStore.open(dir)
  t.equal((await store.list('session-rules')).length, 19)
  t.equal(await store.get('session-rules', 'w7'), undefined)
  t.equal(await store.get('session-rules', 'w19'), 19)
  await store.close()
})

t.test('a file that may not grow refuses the write, keeps what it had and the process alive (lmdb)', async (t) => {
  const dir = join(t.testdir({}), 'documents')
  const child = runWithStore(
    dir,
    `const seen = { kept: 0, refused: [] }
    for (let i = 0; i < 60; i++) {
      await store.put('session-rules', 'w' + i, 'x'.repeat(10_000)).then(() => seen.kept++, (error) => seen.refused.push(error))
    }
    await new Promise((resolve) => setImmediate(resolve))
    const listed = (await store.list('session-rules')).length
    const [first] = seen.refused
    await store.close()
    console.log(JSON.stringify({ ...seen, refused: seen.refused.length, listed, code: first.code, message: first.message }))`,
    'ulimit -f 256'
  )
  t.equal(child.status, 0, child.stderr)
  const seen = JSON.parse(child.stdout)
  t.ok(seen.kept > 0 && seen.refused > 0, child.stdout)
  t.equal(seen.kept + seen.refused, 60)
  t.equal(seen.listed, seen.kept)
  t.equal(seen.code, 'CC_STORE_UNAVAILABLE')
  t.match(seen.message, /documents: Input\/output error/)

  const store = await LmdbDocumentStore.open(dir)
  t.equal((await store.list('session-rules')).length, seen.kept)
  await store.put('session-rules', 'after', 'x'.repeat(10_000))
  await store.close()
})

t.test('a closed lmdb store refuses with a code, and closing twice is fine', async (t) => {
  const store = await LmdbDocumentStore.open(t.testdir({}))
  await store.put('session-rules', 'w', 1)
  await Promise.all([store.close(), store.close()])
  const expected = { code: 'CC_STORE_UNAVAILABLE', message: /is closed/ }
  await t.rejects(store.get('session-rules', 'w'), expected)
  await t.rejects(store.put('session-rules', 'w', 2), expected)
  await t.rejects(store.delete('session-rules', 'w'), expected)
  await t.rejects(store.list('session-rules'), expected)
})

t.test('an lmdb directory that cannot be used is a coded error that names it, never a crash', async (t) => {
  const dir = t.testdir({ file: 'x', text: { 'data.mdb': 'not a database, '.repeat(4_096) } })
  await t.rejects(LmdbDocumentStore.open(join(dir, 'file')), { code: 'CC_STORE_UNAVAILABLE', message: /file/ })
  const expected = { code: 'CC_STORE_UNAVAILABLE', message: /is not an LMDB file/ }
  await t.rejects(LmdbDocumentStore.open(join(dir, 'text')), expected)
})

t.test('redis', { skip: redisMissing }, async (t) => {
  const documentKeys = ['cc:doc:session-rules', 'cc:doc:session-rules:ids']

  await t.test('a server that is gone is a coded error, and close leaves the client to its owner', async (t) => {
    const server = await startRedis()
    const client = new Redis(server.url, { maxRetriesPerRequest: 0, retryStrategy: () => null })
    client.on('error', () => {})
    const store = new RedisDocumentStore(client)
    await store.close()
    await store.put('session-rules', 'w', 1)
    t.same((await client.keys('*')).sort(), documentKeys, 'a collection is two keys')
    await store.delete('session-rules', 'w')
    t.same(await client.keys('*'), [], 'and an empty one is none')
    await server.stop()
    const expected = { code: 'CC_STORE_UNAVAILABLE', message: /Redis/ }
    await t.rejects(store.get('session-rules', 'w'), expected)
    await t.rejects(store.put('session-rules', 'w', 1), expected)
    await t.rejects(store.delete('session-rules', 'w'), expected)
    await t.rejects(store.list('session-rules'), expected)
  })

  await t.test('a put that a full Redis refuses changes nothing', async (t) => {
    const server = await startRedis()
    const client = new Redis(server.url)
    t.teardown(async () => {
      client.disconnect()
      await server.stop()
    })
    const store = new RedisDocumentStore(client)
    await store.put('session-rules', 'w', 1)
    await client.config('SET', 'maxmemory', '1')
    await t.rejects(store.put('session-rules', 'w', 2), { code: 'CC_STORE_UNAVAILABLE', message: /OOM/ })
    await t.rejects(store.put('session-rules', 'v', 2), { code: 'CC_STORE_UNAVAILABLE' })
    t.same(await store.list('session-rules'), [{ id: 'w', value: 1 }])
    t.equal(await store.delete('session-rules', 'w'), true, 'and a delete makes room')
  })
})

async function listedBy(t: Test, build: (app: ReturnType<typeof Fastify>) => void) {
  const app = Fastify()
  t.teardown(() => app.close())
  build(app)
  await app.ready()
  const { documents } = app
  await documents.put('session-rules', 'w', documents.name)
  const listed = await documents.list('session-rules')
  await app.close()
  return { documents, listed }
}

t.test('the plugin keeps documents embedded under the data directory, and closes them with the app', async (t) => {
  const dataDir = t.testdir({})
  const { documents, listed } = await listedBy(t, (app) => app.register(storePlugin, { dataDir }))
  t.same(listed, [{ id: 'w', value: 'lmdb' }])
  t.equal((await stat(join(dataDir, 'documents'))).mode & 0o777, 0o700)
  await t.rejects(documents.list('session-rules'), { code: 'CC_STORE_UNAVAILABLE', message: /is closed/ })
})

t.test('the plugin keeps documents in Redis when there is one', { skip: redisMissing }, async (t) => {
  const server = await startRedis()
  t.teardown(() => server.stop())
  const dataDir = t.testdir({})
  const { listed } = await listedBy(t, (app) => {
    app.register(externalRedis, { url: server.url, connectTimeoutMs: 5_000 })
    app.register(storePlugin, { dataDir })
  })
  t.same(listed, [{ id: 'w', value: 'redis' }])
  await t.rejects(stat(join(dataDir, 'documents')), { code: 'ENOENT' })
})
