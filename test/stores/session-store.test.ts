import { spawnSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { LmdbSessionStore } from '../../src/stores/lmdb-session-store.ts'
import { RedisSessionStore, sessionKey } from '../../src/stores/redis-session-store.ts'
import type { SessionRecord, SessionStore } from '../../src/stores/session-store.ts'
import { opener, plantInLmdb, startRedisClients } from '../support/store-backends.ts'
import { redisMissing, startRedis } from './redis-server.ts'

interface Backend {
  /** Another store on the same data, as a second gateway would have. */
  another(): Promise<SessionStore>
  /** Puts raw text where the record of the user belongs. */
  plant(userId: string, text: string): Promise<void>
}

function record(userId: string, sessionId = `sess_${userId}`): SessionRecord {
  return { userId, sessionId, createdAtMs: 1_000, lastActiveAtMs: 2_000 }
}

async function startLmdb(t: Test): Promise<Backend> {
  const dir = join(t.testdir({}), 'sessions.v1')
  return {
    another: opener(t, () => LmdbSessionStore.open(dir)),
    plant: (userId, text) => plantInLmdb(dir, userId, text)
  }
}

async function startRedisBackend(t: Test): Promise<Backend> {
  const connect = await startRedisClients(t)
  return {
    another: async () => new RedisSessionStore(connect()),
    async plant(userId, text) {
      const client = connect()
      await client.set(sessionKey(userId), text)
      await client.zadd('cc:sessions', 0, userId)
    }
  }
}

async function suite(t: Test, start: (t: Test) => Promise<Backend>): Promise<void> {
  await t.test('keeps what was put and knows nothing of other users', async (t) => {
    const store = await (await start(t)).another()
    await store.put(record('ana|x:1@example.org'))
    t.same(await store.get('ana|x:1@example.org'), record('ana|x:1@example.org'))
    t.equal(await store.get('ana|x:1@example.or'), undefined)
    await store.put({ ...record('ana|x:1@example.org'), lastActiveAtMs: 3_000 })
    t.equal((await store.get('ana|x:1@example.org'))?.lastActiveAtMs, 3_000)
    await store.ping()
  })

  await t.test('another gateway reads what one has put', async (t) => {
    const backend = await start(t)
    const [one, two] = [await backend.another(), await backend.another()]
    await one.put(record('ben'))
    t.same(await two.get('ben'), record('ben'))
    await one.close()
    t.same(await (await backend.another()).get('ben'), record('ben'), 'and after the first one closed')
  })

  await t.test('gives every racing gateway the same first record', async (t) => {
    const backend = await start(t)
    const stores = [await backend.another(), await backend.another()]
    const racing = Array.from({ length: 40 }, (_, i) => stores[i % 2]?.ensure(record('cleo', `sess_${i}`)))
    const winners = new Set((await Promise.all(racing)).map((winner) => winner?.sessionId))
    t.equal(winners.size, 1)
    t.ok(winners.has((await stores[1]?.get('cleo'))?.sessionId))
    t.same((await stores[0]?.list({ limit: 9 }))?.records.length, 1)
  })

  await t.test('pages through all users in order, each once', async (t) => {
    const store = await (await start(t)).another()
    const userIds = ['B', 'a', 'a-1', 'a.1', 'a:1', 'ab', 'z|z']
    for (const userId of [...userIds].reverse()) await store.put(record(userId))
    await store.ensure(record('a'))

    const seen: string[] = []
    let cursor: string | undefined
    let pages = 0
    do {
      const page = await store.list({ limit: 3, cursor })
      seen.push(...page.records.map((one) => one.userId))
      cursor = page.nextCursor
      pages++
    } while (cursor !== undefined)
    t.same(seen, [...userIds].sort())
    t.equal(pages, 3)
    t.same(
      await store.list({ limit: 7 }),
      { records: (await store.list({ limit: 99 })).records },
      'no cursor at the end'
    )
  })

  await t.test('an empty store lists nothing', async (t) => {
    const store = await (await start(t)).another()
    t.same(await store.list({ limit: 1 }), { records: [] })
  })

  await t.test('a stored record that is damaged is a clear error and can be replaced', async (t) => {
    const backend = await start(t)
    const store = await backend.another()
    const damaged: [string, RegExp][] = [
      ['{"userId":"dan"', /it is not JSON/],
      ['[]', /not readable/],
      [JSON.stringify({ ...record('dan'), createdAtMs: 'yesterday' }), /createdAtMs/],
      [JSON.stringify(record('eve')), /names another user/]
    ]
    for (const [text, message] of damaged) {
      await backend.plant('dan', text)
      const expected = { code: 'CC_STORE_RECORD_INVALID', message }
      await t.rejects(store.get('dan'), expected)
      await t.rejects(store.ensure(record('dan')), expected)
      await t.rejects(store.list({ limit: 5 }), expected)
    }
    await store.put(record('dan'))
    t.same(await store.get('dan'), record('dan'))
  })

  await t.test('refuses what could not be read back, and works on', async (t) => {
    const store = await (await start(t)).another()
    const ids = ['', 'x'.repeat(129), 'x'.repeat(5_000), 'a/../b', 'a b', 'ü', '\0']
    for (const userId of ids) {
      const expected = { code: 'CC_INVALID_USER_ID' }
      await t.rejects(store.put(record(userId)), expected)
      await t.rejects(store.ensure(record(userId)), expected)
      await t.rejects(store.get(userId), expected)
    }
    await t.rejects(store.list({ limit: 1, cursor: 'a b' }), { code: 'CC_INVALID_USER_ID' })
    await t.rejects(store.put({ ...record('fay'), createdAtMs: Number.NaN }), { code: 'CC_STORE_RECORD_INVALID' })
    await store.put(record('x'.repeat(128)))
    t.same(await store.list({ limit: 5 }), { records: [record('x'.repeat(128))] })
  })
}

t.test('lmdb', (t) => suite(t, startLmdb))
t.test('redis', { skip: redisMissing }, (t) => suite(t, startRedisBackend))

t.test('a put that resolved survives a SIGKILL of its process (lmdb)', async (t) => {
  const dir = join(t.testdir({}), 'sessions')
  const module = new URL('../../src/stores/lmdb-session-store.ts', import.meta.url).href
  const script = `
    const { LmdbSessionStore } = await import(${JSON.stringify(module)})
    const store = await LmdbSessionStore.open(${JSON.stringify(dir)})
    for (let i = 0; i < 20; i++) await store.put({ userId: 'u' + i, sessionId: 's', createdAtMs: 1, lastActiveAtMs: 1 })
    process.kill(process.pid, 'SIGKILL')`
  const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    encoding: 'utf8'
  })
  t.equal(child.signal, 'SIGKILL', child.stderr)
  const store = await LmdbSessionStore.open(dir)
  t.equal((await store.list({ limit: 99 })).records.length, 20)
  await store.close()
})

t.test('a closed lmdb store refuses with a code, and closing twice is fine', async (t) => {
  const store = await LmdbSessionStore.open(t.testdir({}))
  await store.put(record('gil'))
  await Promise.all([store.close(), store.close()])
  const expected = { code: 'CC_STORE_UNAVAILABLE', message: /is closed/ }
  await t.rejects(store.get('gil'), expected)
  await t.rejects(store.put(record('gil')), expected)
  await t.rejects(store.ensure(record('gil')), expected)
  await t.rejects(store.list({ limit: 1 }), expected)
  await t.rejects(store.ping(), expected)
})

t.test('an lmdb directory that cannot be used is a coded error that names it, never a crash', async (t) => {
  const dir = t.testdir({ file: 'x', new: { 'data.mdb': '' } })
  await t.rejects(LmdbSessionStore.open(join(dir, 'file')), { code: 'CC_STORE_UNAVAILABLE', message: /file/ })
  await (await LmdbSessionStore.open(join(dir, 'new'))).close()

  const store = await LmdbSessionStore.open(join(dir, 'full'))
  for (let i = 0; i < 60; i++) await store.put(record(`u${i}`, 's'.repeat(200)))
  await store.close()
  const whole = await readFile(join(dir, 'full', 'data.mdb'))
  const damages: [string, Buffer, RegExp][] = [
    ['text', Buffer.from('not a database, '.repeat(4_096)), /text.data\.mdb is not an LMDB file/],
    ['one-byte', Buffer.from('x'), /is not an LMDB file/],
    ['zeroed', Buffer.concat([Buffer.alloc(8_192), whole.subarray(8_192)]), /is not an LMDB file/],
    ['one-page', whole.subarray(0, 4_096), /is not an LMDB file/],
    ['cut-short', whole.subarray(0, whole.length / 2), /is cut short/]
  ]
  for (const [name, bytes, message] of damages) {
    const damaged = join(dir, name)
    await mkdir(damaged)
    await writeFile(join(damaged, 'data.mdb'), bytes)
    await t.rejects(LmdbSessionStore.open(damaged), { code: 'CC_STORE_UNAVAILABLE', message }, name)
    t.ok(bytes.equals(await readFile(join(damaged, 'data.mdb'))), 'and the file is left as it was')
  }

  await mkdir(join(dir, 'copy'))
  await writeFile(join(dir, 'copy', 'data.mdb'), whole)
  const copy = await LmdbSessionStore.open(join(dir, 'copy'))
  t.equal((await copy.list({ limit: 99 })).records.length, 60, 'an undamaged copy opens')
  await copy.close()
})

t.test('redis', { skip: redisMissing }, async (t) => {
  await t.test('a server that is gone is a coded error, and close leaves the client to its owner', async (t) => {
    const server = await startRedis()
    const client = new Redis(server.url, { maxRetriesPerRequest: 0, retryStrategy: () => null })
    client.on('error', () => {})
    const store = new RedisSessionStore(client)
    await store.close()
    await store.put(record('hal'))
    t.equal(client.status, 'ready')
    await server.stop()
    const expected = { code: 'CC_STORE_UNAVAILABLE', message: /Redis/ }
    await t.rejects(store.get('hal'), expected)
    await t.rejects(store.put(record('hal')), expected)
    await t.rejects(store.ensure(record('hal')), expected)
    await t.rejects(store.list({ limit: 1 }), expected)
    await t.rejects(store.ping(), expected)
  })

  await t.test('a record that Redis evicted is passed over in the list', async (t) => {
    const server = await startRedis()
    const client = new Redis(server.url)
    t.teardown(async () => {
      client.disconnect()
      await server.stop()
    })
    const store = new RedisSessionStore(client)
    for (const userId of ['a', 'b', 'c']) await store.put(record(userId))
    await client.del(sessionKey('b'))
    t.same(await store.list({ limit: 2 }), { records: [record('a')], nextCursor: 'b' })
    t.same(await store.list({ limit: 2, cursor: 'b' }), { records: [record('c')] })
  })
})
