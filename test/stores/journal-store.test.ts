import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { JournalStore } from '../../src/stores/journal-store.ts'
import { journalKey, journalRunsKey, RedisJournalStore } from '../../src/stores/redis-journal-store.ts'
import { SegmentJournalStore } from '../../src/stores/segment-journal-store.ts'
import { opener, plantInLmdb, startRedisClients } from '../support/store-backends.ts'
import { EVERYTHING, edges, frameOf, HEAD, runOf, spans, stored, WIDE } from './journal-runs.ts'
import { redisMissing, startRedis } from './redis-server.ts'

interface Backend {
  /** Another store on the same data, as a second gateway would have. */
  another(): Promise<JournalStore>
  /** Puts a damaged head where the user's belongs. */
  plant(userId: string, head: { epoch: string; lineage: string }): Promise<void>
}

async function startSegments(t: Test): Promise<Backend> {
  const dir = join(t.testdir({}), 'journal.v2')
  return {
    another: opener(t, () => SegmentJournalStore.open(dir)),
    async plant(userId, { epoch, lineage }) {
      const text = `{"epoch":${JSON.stringify(epoch)},"lineage":${lineage},"isOpen":true,"lastSeq":0}`
      await plantInLmdb(join(dir, 'heads'), userId, text)
    }
  }
}

async function startRedisBackend(t: Test): Promise<Backend> {
  const connect = await startRedisClients(t)
  return {
    another: async () => new RedisJournalStore(connect()),
    async plant(userId, head) {
      await connect().hset(journalKey(userId), { ...head, isOpen: '1', lastSeq: '0', firstSeq: '1' })
    }
  }
}

async function opened(backend: Backend, ...userIds: string[]): Promise<JournalStore> {
  const store = await backend.another()
  for (const userId of userIds) await store.putHead(userId, HEAD)
  return store
}

async function suite(t: Test, start: (t: Test) => Promise<Backend>): Promise<void> {
  await t.test('gives back what was appended, byte for byte, to any store on the same data', async (t) => {
    const backend = await start(t)
    const store = await opened(backend, 'ana')
    const runs = [runOf(1, 40), runOf(41, 41), runOf(42, 300)]
    await store.append('ana', runs.slice(0, 2), WIDE)
    await store.append('ana', runs.slice(2), WIDE)
    t.strictSame(await store.read('ana', 0, EVERYTHING), runs)
    t.equal(new Set(runs[2]?.frames).size, 256, 'every byte value was among them')
    t.strictSame(await (await backend.another()).read('ana', 0, EVERYTHING), runs)
    t.same(await edges(store, 'ana'), [1, 300])
  })

  await t.test('reads from the middle of a run, in pieces of a size', async (t) => {
    const store = await opened(await start(t), 'ana')
    const runs = Array.from({ length: 50 }, (_, n) => runOf(n * 10 + 1, n * 10 + 10, { payloadBytes: 98 }))
    await store.append('ana', runs, WIDE)
    t.equal(spans(await store.read('ana', 14, 2_000)), '11-20 21-30')
    t.equal(spans(await store.read('ana', 20, 1_999)), '21-30', 'at most so many bytes')
    t.equal(spans(await store.read('ana', 20, 0)), '21-30', 'at least one run')
    t.equal(spans(await store.read('ana', 489, EVERYTHING)), '481-490 491-500')
    t.equal((await store.read('ana', 0, EVERYTHING)).length, 50)
    t.same(await store.read('ana', 500, EVERYTHING), [])
    t.same(await store.read('nobody', 0, EVERYTHING), [])
  })

  await t.test('keeps the head as it was put last; burnt numbers move lastSeq up, never down', async (t) => {
    const backend = await start(t)
    const store = await backend.another()
    t.equal(await store.load('ana'), undefined)
    await store.putHead('ana', HEAD)
    t.same(await store.load('ana'), { ...HEAD, firstSeq: 1, lastSeq: 0 })
    await store.append('ana', [runOf(1, 5)], WIDE)
    const next = { epoch: 'e2', lineage: [{ epoch: 'e1', lastSeq: 5 }], isOpen: true }
    await store.putHead('ana', { ...next, lastSeq: 6 })
    t.same(await store.load('ana'), { ...next, firstSeq: 1, lastSeq: 6 })
    await store.putHead('ana', { ...next, isOpen: false, lastSeq: 2 })
    t.same(await (await backend.another()).load('ana'), { ...next, isOpen: false, firstSeq: 1, lastSeq: 6 })
    await store.append('ana', [runOf(7, 9)], WIDE)
    t.equal(await stored(store, 'ana'), '1-5 7-9', 'the hole stays one')
    t.equal(spans(await store.read('ana', 5, EVERYTHING)), '7-9')
    t.equal(spans(await store.read('ana', 6, EVERYTHING)), '7-9')
  })

  await t.test('a retry adds only what is not there yet, cut into other runs or not', async (t) => {
    const store = await opened(await start(t), 'ana')
    const runs = [runOf(1, 10), runOf(11, 20)]
    await store.append('ana', runs, WIDE)
    await store.append('ana', runs, WIDE)
    await store.append('ana', [...runs, runOf(21, 25)], WIDE)
    t.equal(await stored(store, 'ana'), '1-10 11-20 21-25')
    await store.append('ana', [runOf(11, 40), runOf(41, 42)], WIDE)
    t.equal(await stored(store, 'ana'), '1-10 11-20 21-25 26-40 41-42')
    const frames = (await store.read('ana', 0, EVERYTHING)).map((run) => run.frames)
    t.ok(Buffer.concat(frames).equals(runOf(1, 42).frames), 'each event once, in order')
    await store.append('ana', [], WIDE)
    t.same(await edges(store, 'ana'), [1, 42])
  })

  await t.test('the oldest runs go once the newer ones alone reach the number of events', async (t) => {
    const store = await opened(await start(t), 'ana')
    const bounds = { ...WIDE, maxEvents: 30 }
    for (let n = 0; n < 4; n++) await store.append('ana', [runOf(n * 10 + 1, n * 10 + 10)], bounds)
    t.equal(await stored(store, 'ana'), '11-20 21-30 31-40', 'three hold 30')
    await store.append('ana', [runOf(141, 145)], bounds)
    t.equal(await stored(store, 'ana'), '11-20 21-30 31-40 141-145', 'a hole counts as nothing')
    await store.append('ana', [runOf(146, 150)], bounds)
    t.equal(await stored(store, 'ana'), '21-30 31-40 141-145 146-150')
    t.same(await edges(store, 'ana'), [21, 150])
    await store.append('ana', [runOf(151, 160), runOf(161, 190), runOf(191, 240)], bounds)
    t.equal(await stored(store, 'ana'), '191-240', 'what is appended and beyond the bound at once goes too')
    await store.append('ana', [runOf(241, 241)], { ...bounds, maxEvents: 0 })
    t.equal(await stored(store, 'ana'), '241-241', 'the newest run always stays')
    await store.append('ana', [runOf(242, 271)], bounds)
    t.equal(await stored(store, 'ana'), '242-271', 'the counters are right to the end')
  })

  await t.test('the oldest runs go once the newer ones alone reach the number of bytes', async (t) => {
    const store = await opened(await start(t), 'ana')
    const bounds = { ...WIDE, maxBytes: 3_000 }
    const run = (n: number) => runOf(n * 10 + 1, n * 10 + 10, { payloadBytes: 98 })
    for (let n = 0; n < 3; n++) await store.append('ana', [run(n)], bounds)
    t.equal(await stored(store, 'ana'), '1-10 11-20 21-30')
    await store.append('ana', [run(3)], bounds)
    t.equal(await stored(store, 'ana'), '11-20 21-30 31-40')
    await store.append('ana', [runOf(41, 41, { payloadBytes: 100_000 })], bounds)
    t.equal(await stored(store, 'ana'), '41-41', 'one that is larger than all is kept alone')
    await store.append('ana', [run(5), run(6)], bounds)
    t.equal(await stored(store, 'ana'), '41-41 51-60 61-70')
    await store.append('ana', [run(7)], bounds)
    t.equal(await stored(store, 'ana'), '51-60 61-70 71-80')
  })

  await t.test('runs beyond the age go with the next append', async (t) => {
    const store = await opened(await start(t), 'ana')
    const bounds = { ...WIDE, maxAgeMs: 60_000 }
    const oldMs = Date.now() - 61_000
    await store.append('ana', [runOf(1, 2, { atMs: oldMs }), runOf(3, 4, { atMs: oldMs })], bounds)
    t.equal(await stored(store, 'ana'), '3-4', 'the newest stays')
    await store.append('ana', [runOf(5, 6, { atMs: Date.now() - 30_000 }), runOf(7, 8)], bounds)
    t.equal(await stored(store, 'ana'), '5-6 7-8')
  })

  await t.test('holds large runs, and many small ones', async (t) => {
    const store = await opened(await start(t), 'ana', 'ben')
    const large = runOf(1, 3, { payloadBytes: 3_000_000 })
    await store.append('ana', [large, runOf(4, 900)], WIDE)
    t.strictSame((await store.read('ana', 0, 1))[0], large)
    t.equal(spans(await store.read('ana', 3, EVERYTHING)), '4-900')

    const small = Array.from({ length: 3_000 }, (_, n) => runOf(n + 1, n + 1, { payloadBytes: 20 }))
    await store.append('ben', small, WIDE)
    t.strictSame(await store.read('ben', 0, EVERYTHING), small)
    await store.append('ben', [runOf(3_001, 3_005), runOf(3_006, 3_010)], { ...WIDE, maxEvents: 10 })
    t.equal(await stored(store, 'ben'), '3001-3005 3006-3010', 'a long trim in one step')
  })

  await t.test('users do not see each other', async (t) => {
    const userIds = [
      'a',
      'ab',
      'a.b',
      'a:b',
      'a|b',
      'aB',
      '-a',
      '1',
      '12',
      'head',
      'run',
      'x'.repeat(127),
      'x'.repeat(128)
    ]
    const store = await opened(await start(t), ...userIds)
    for (const [n, userId] of userIds.entries()) await store.append(userId, [runOf(n + 1, n + 3)], WIDE)
    for (const [n, userId] of userIds.entries()) t.equal(await stored(store, userId), `${n + 1}-${n + 3}`, userId)
    await store.append('a', [runOf(1_001, 1_001)], { ...WIDE, maxEvents: 1 })
    await store.delete('ab')
    t.equal(await stored(store, 'a'), '1001-1001')
    t.equal(await stored(store, 'ab'), '')
    t.equal(await stored(store, 'a.b'), '3-5')
    for (const userId of ['', 'a/b', 'a b', '{a}', 'ü', 'x'.repeat(129), '\0']) {
      const expected = { code: 'CC_INVALID_USER_ID' }
      await t.rejects(store.load(userId), expected)
      await t.rejects(store.putHead(userId, HEAD), expected)
      await t.rejects(store.append(userId, [runOf(1, 1)], WIDE), expected)
      await t.rejects(store.read(userId, 0, 1), expected)
      await t.rejects(store.delete(userId), expected)
    }
  })

  await t.test('what was deleted is gone, and an append that comes late does not bring it back', async (t) => {
    const store = await opened(await start(t), 'ana')
    await store.append('ana', [runOf(1, 5), runOf(6, 10)], WIDE)
    await store.delete('ana')
    t.equal(await store.load('ana'), undefined)
    t.equal(await stored(store, 'ana'), '')
    await t.rejects(store.append('ana', [runOf(11, 12)], WIDE), { code: 'CC_JOURNAL_UNKNOWN', message: /ana/ })
    t.equal(await store.load('ana'), undefined)
    t.equal(await stored(store, 'ana'), '')
    await store.delete('ana')
    await store.putHead('ana', { ...HEAD, epoch: 'e9' })
    await store.append('ana', [runOf(1, 2)], { ...WIDE, maxEvents: 2 })
    t.equal(await stored(store, 'ana'), '1-2')
    t.equal((await store.load('ana'))?.epoch, 'e9')
  })

  await t.test('writers of several stores lose nothing of each other', async (t) => {
    const backend = await start(t)
    const stores = [await opened(backend, 'ana', 'ben'), await backend.another()]
    const work = Array.from({ length: 60 }, (_, n) => {
      const store = stores[n % 2] as JournalStore
      return Promise.all([
        store.append('ana', [runOf(1, n + 1)], WIDE),
        store.append('ben', [runOf(n * 2 + 1, n * 2 + 2)], { ...WIDE, maxEvents: 20 }),
        store.putHead('ana', { ...HEAD, isOpen: n % 3 === 0, lastSeq: 0 })
      ])
    })
    await Promise.all(work)
    const runs = await (stores[0] as JournalStore).read('ana', 0, EVERYTHING)
    t.ok(Buffer.concat(runs.map((run) => run.frames)).equals(runOf(1, 60).frames), 'each event once, in order')
    t.same(await edges(stores[1] as JournalStore, 'ana'), [1, 60])
    t.equal((await edges(stores[1] as JournalStore, 'ben'))[1], 120)
  })

  await t.test('a head that is damaged is a clear error and can be replaced', async (t) => {
    const backend = await start(t)
    const store = await opened(backend, 'ana')
    for (const head of [
      { epoch: '', lineage: '[]' },
      { epoch: 'e1', lineage: '[7]' },
      { epoch: 'e1', lineage: '[' }
    ]) {
      await backend.plant('ana', head)
      await t.rejects(store.load('ana'), { code: 'CC_STORED_JOURNAL_INVALID', message: /"ana" is not readable/ })
      await store.delete('ana')
      await store.putHead('ana', HEAD)
      t.same(await store.load('ana'), { ...HEAD, firstSeq: 1, lastSeq: 0 })
    }
  })
}

t.test('segments', (t) => suite(t, startSegments))
t.test('redis', { skip: redisMissing }, (t) => suite(t, startRedisBackend))

t.test('redis', { skip: redisMissing }, async (t) => {
  const connectTo = (t: Test, url: string) => {
    const client = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => 20 })
    client.on('error', () => {})
    t.teardown(() => client.disconnect())
    return client
  }

  await t.test('while the server is gone calls fail with a code; when it is back they work again', async (t) => {
    const first = await startRedis()
    const client = connectTo(t, first.url)
    const store = new RedisJournalStore(client)
    await store.close()
    await store.putHead('hal', HEAD)
    await store.append('hal', [runOf(1, 5)], WIDE)
    await first.stop()
    const expected = { code: 'CC_STORE_UNAVAILABLE', message: /Redis/ }
    await t.rejects(store.load('hal'), expected)
    await t.rejects(store.putHead('hal', HEAD), expected)
    await t.rejects(store.append('hal', [runOf(6, 7)], WIDE), expected)
    await t.rejects(store.read('hal', 0, 1), expected)
    await t.rejects(store.delete('hal'), expected)

    const second = await startRedis({ port: first.port })
    t.teardown(() => second.stop())
    if (client.status !== 'ready') await once(client, 'ready')
    // This one comes back empty, as one without a disk does.
    await t.rejects(store.append('hal', [runOf(6, 7)], WIDE), { code: 'CC_JOURNAL_UNKNOWN' })
    await store.putHead('hal', { ...HEAD, lastSeq: 5 })
    await store.append('hal', [runOf(6, 7)], WIDE)
    t.same(await edges(store, 'hal'), [6, 7])
  })

  await t.test('runs expire with the age bound; an open head does not, a closed one does', async (t) => {
    const server = await startRedis()
    t.teardown(() => server.stop())
    const client = connectTo(t, server.url)
    const store = new RedisJournalStore(client)
    await store.putHead('ida', HEAD)
    await store.append('ida', [runOf(1, 5)], WIDE)
    const runsTtlMs = await client.pttl(journalRunsKey('ida'))
    t.ok(runsTtlMs > WIDE.maxAgeMs - 30_000 && runsTtlMs <= WIDE.maxAgeMs, `${runsTtlMs} ms`)
    t.equal(await client.pttl(journalKey('ida')), -1)
    await store.putHead('ida', { ...HEAD, isOpen: false })
    t.ok((await client.pttl(journalKey('ida'))) > 0)
    await store.putHead('ida', HEAD)
    t.equal(await client.pttl(journalKey('ida')), -1, 'an opened one stays again')

    await store.append('ida', [runOf(6, 8)], { ...WIDE, maxAgeMs: 50 })
    while ((await client.exists(journalRunsKey('ida'))) === 1) await delay(10)
    t.same(await edges(store, 'ida'), [9, 8])
    t.same(await store.read('ida', 0, 1), [])
    for (const run of [runOf(9, 10), runOf(11, 12)]) await store.append('ida', [run], { ...WIDE, maxEvents: 4 })
    t.equal(await stored(store, 'ida'), '9-10 11-12', 'the counters forgot what expired')
    await store.append('ida', [runOf(13, 14)], { ...WIDE, maxAgeMs: 50 })
    await store.putHead('ida', { ...HEAD, isOpen: false })
    while ((await client.exists(journalKey('ida'))) === 1) await delay(10)
    await store.expire()
    t.equal(await store.load('ida'), undefined)
  })

  await t.test('a script is sent once, and again to a server that forgot it', async (t) => {
    const server = await startRedis()
    t.teardown(() => server.stop())
    const client = connectTo(t, server.url)
    const store = new RedisJournalStore(client)
    await store.putHead('jo', HEAD)
    for (let seq = 1; seq <= 5; seq++) await store.append('jo', [runOf(seq, seq)], WIDE)
    const info = await client.info('commandstats')
    t.match(info, /cmdstat_evalsha:calls=4,/)
    t.match(info, /cmdstat_eval:calls=2,/, 'one of each script')
    await client.script('FLUSH')
    await store.append('jo', [{ ...runOf(6, 6), frames: frameOf(6) }], WIDE)
    t.equal((await store.read('jo', 0, EVERYTHING)).length, 6)
  })
})
