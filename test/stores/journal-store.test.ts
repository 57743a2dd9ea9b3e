import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { type Key, open } from 'lmdb'
import t, { type Test } from 'tap'
import type { Run } from '../../src/journal/run.ts'
import type { JournalStore } from '../../src/stores/journal-store.ts'
import { LmdbJournalStore } from '../../src/stores/lmdb-journal-store.ts'
import { journalKey, journalRunsKey, RedisJournalStore } from '../../src/stores/redis-journal-store.ts'
import { frameOf, runOf } from './journal-runs.ts'
import { redisMissing, startRedis } from './redis-server.ts'

const KILL_ROUNDS = process.env.FULL ? 100 : 4
// A round is one start of the writer: seconds on a busy machine.
t.setTimeout(KILL_ROUNDS * 10_000 + 60_000)

const WIDE = { maxEvents: 1e9, maxBytes: 1e9, maxAgeMs: 3_600_000 }
const HEAD = { epoch: 'e1', lineage: [], isOpen: true, lastSeq: 0 }
const EVERYTHING = 1e9

interface Backend {
  /** Another store on the same data, as a second gateway would have. */
  another(): Promise<JournalStore>
  /** Puts a damaged head where the user's belongs. */
  plant(userId: string, head: { epoch: string; lineage: string }): Promise<void>
}

async function startLmdb(t: Test): Promise<Backend> {
  const dir = join(t.testdir({}), 'journal.v1')
  return {
    async another() {
      const store = await LmdbJournalStore.open(dir)
      t.teardown(() => store.close())
      return store
    },
    async plant(userId, { epoch, lineage }) {
      const db = open<Buffer, Key[]>({ path: dir, encoding: 'binary', noSubdir: false, useVersions: true })
      const text = `{"epoch":${JSON.stringify(epoch)},"lineage":${lineage},"isOpen":true,"lastSeq":0}`
      await db.put(['head', userId], Buffer.from(text), 1)
      await db.close()
    }
  }
}

async function startRedisBackend(t: Test): Promise<Backend> {
  const server = await startRedis()
  const clients: Redis[] = []
  const connect = () => {
    const client = new Redis(server.url)
    clients.push(client)
    return client
  }
  t.teardown(async () => {
    for (const client of clients) client.disconnect()
    await server.stop()
  })
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

/** Which events each run holds. */
function spans(runs: readonly Run[]): string {
  return runs.map(({ firstSeq, lastSeq }) => `${firstSeq}-${lastSeq}`).join(' ')
}

async function stored(store: JournalStore, userId: string): Promise<string> {
  return spans(await store.read(userId, 0, EVERYTHING))
}

async function edges(store: JournalStore, userId: string): Promise<(number | undefined)[]> {
  const journal = await store.load(userId)
  return [journal?.firstSeq, journal?.lastSeq]
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
    await store.append('ben', [runOf(3_001, 3_001)], { ...WIDE, maxEvents: 10 })
    t.equal((await store.read('ben', 0, EVERYTHING)).length, 10, 'a long trim in one step')
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

t.test('lmdb', (t) => suite(t, startLmdb))
t.test('redis', { skip: redisMissing }, (t) => suite(t, startRedisBackend))

t.test('lmdb: expire removes what is old, and closed journals that have nothing left', async (t) => {
  const store = await LmdbJournalStore.open(t.testdir({}))
  const nowMs = Date.now()
  const old = (firstSeq: number, lastSeq: number) => runOf(firstSeq, lastSeq, { atMs: nowMs - 10_000 })
  const many = Array.from({ length: 150 }, (_, n) => `u${n}`)
  for (const userId of ['open', 'closed', 'mixed', 'young', ...many]) await store.putHead(userId, HEAD)
  for (const userId of ['open', 'closed', 'mixed', ...many]) await store.append(userId, [old(1, 5), old(6, 9)], WIDE)
  for (const userId of ['mixed', 'young']) await store.append(userId, [runOf(10, 12)], WIDE)
  for (const userId of ['closed', 'mixed', 'young', ...many]) {
    await store.putHead(userId, { ...HEAD, isOpen: false, lastSeq: 0 })
  }

  await store.expire(nowMs - 20_000)
  t.same(await edges(store, 'closed'), [1, 9], 'nothing is that old')
  await store.expire(nowMs - 5_000)
  t.same(await edges(store, 'open'), [10, 9])
  t.same(await edges(store, 'closed'), [10, 9], 'a head that changed since is no old one')
  t.equal(await stored(store, 'mixed'), '10-12')
  t.equal(await stored(store, 'young'), '10-12')
  t.same(await edges(store, 'u149'), [10, 9])

  await store.putHead('alive', HEAD)
  await store.append('alive', [old(1, 5)], WIDE)
  await store.expire(Date.now() + 10_000)
  t.same(await edges(store, 'alive'), [6, 5], 'its gateway may just have had nothing to say')
  t.same(await edges(store, 'open'), [10, 9], 'the head of an open journal stays')
  for (const userId of ['closed', 'mixed', 'young', ...many]) t.equal(await store.load(userId), undefined, userId)
  await store.append('open', [runOf(10, 12)], { ...WIDE, maxEvents: 3 })
  t.equal(await stored(store, 'open'), '10-12', 'and its counters are right')
  await store.close()
})

t.test('lmdb: a closed store refuses with a code, after what it was told to write', async (t) => {
  const dir = t.testdir({})
  const store = await LmdbJournalStore.open(dir)
  await store.putHead('gil', HEAD)
  const appended = store.append('gil', [runOf(1, 500)], WIDE)
  await Promise.all([store.close(), store.close(), appended])
  const expected = { code: 'CC_STORE_UNAVAILABLE', message: /is closed/ }
  await t.rejects(store.load('gil'), expected)
  await t.rejects(store.putHead('gil', HEAD), expected)
  await t.rejects(store.append('gil', [runOf(501, 502)], WIDE), expected)
  await t.rejects(store.read('gil', 0, 1), expected)
  await t.rejects(store.expire(0), expected)
  await t.rejects(store.delete('gil'), expected)
  const again = await LmdbJournalStore.open(dir)
  t.strictSame((await again.read('gil', 0, 1))[0]?.frames, runOf(1, 500).frames)
  await again.close()
})

t.test('lmdb: the file stays near the size of the journal, whatever sizes come and go', async (t) => {
  const dir = t.testdir({})
  const store = await LmdbJournalStore.open(dir)
  await store.putHead('ana', HEAD)
  const maxBytes = 4 * 1024 * 1024
  const source = Buffer.alloc(256 * 1024, 'x')
  let total = 0
  for (let seq = 1; total < 20 * maxBytes; seq++) {
    const bytes = 1 + ((seq * 7_919) % source.length) ** (seq % 3 === 0 ? 1 : 0.8)
    const run = { firstSeq: seq, lastSeq: seq, atMs: Date.now(), frames: source.subarray(0, bytes) }
    await store.append('ana', [run], { ...WIDE, maxBytes })
    total += run.frames.length
  }
  const { size } = await stat(join(dir, 'data.mdb'))
  await store.close()
  t.ok(size < 2 * maxBytes, `${size} bytes for ${maxBytes}`)
})

/** Runs the writer in a process of its own; `shell` runs before it (a ulimit). */
function startWriter(dir: string, options: { appends?: number; shell?: string } = {}) {
  const script = fileURLToPath(new URL('./journal-writer.ts', import.meta.url))
  const command = `${options.shell ?? 'true'}; exec "$0" --import tsx "$@"`
  const args = ['-c', command, process.execPath, script, dir, 'ana', String(options.appends ?? 'endless')]
  // Without tap's own loaders, which tap hands on by the environment and which cost a second per start.
  const env = { PATH: process.env.PATH }
  const child = spawn('bash', args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: join(script, '../../..'), env })
  let errors = ''
  child.stderr.on('data', (data) => {
    errors += data
  })
  return { child, closed: once(child, 'close'), lines: createInterface({ input: child.stdout }), errors: () => errors }
}

async function assertWhole(t: Test, dir: string, ackedSeq: number): Promise<void> {
  const store = await LmdbJournalStore.open(dir)
  const journal = await store.load('ana')
  const runs = await store.read('ana', 0, EVERYTHING)
  await store.close()
  const lastSeq = journal?.lastSeq ?? 0
  t.ok(lastSeq === ackedSeq || lastSeq === ackedSeq + 100, `${ackedSeq} was promised, ${lastSeq} is stored`)
  t.equal(runs[0]?.firstSeq, journal?.firstSeq)
  t.equal(runs.at(-1)?.lastSeq, lastSeq)
  const wrong = runs.filter(({ firstSeq, lastSeq: last, frames }) => !frames.equals(runOf(firstSeq, last).frames))
  t.same(spans(wrong), '', 'every byte is as it was appended')
}

t.test(`lmdb: killed ${KILL_ROUNDS} times, a journal keeps every append that resolved`, async (t) => {
  const dir = t.testdir({})
  let ackedSeq = 0
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const { child, closed, lines, errors } = startWriter(dir)
    let toCome = 1 + Math.floor(Math.random() * 60)
    for await (const line of lines) {
      ackedSeq = Number(/^stored (\d+)$/.exec(line)?.[1])
      if (--toCome === 0) child.kill('SIGKILL')
    }
    await closed
    t.equal(child.signalCode, 'SIGKILL', errors())
    await assertWhole(t, dir, ackedSeq)
    const store = await LmdbJournalStore.open(dir)
    ackedSeq = (await store.load('ana'))?.lastSeq ?? 0
    await store.close()
  }
})

t.test('lmdb: a disk that is full refuses with a code, ends no process and loses nothing that resolved', async (t) => {
  const dir = t.testdir({})
  // 1,024-byte blocks: a part of 150 appends of about 16 KiB.
  const { child, closed, lines } = startWriter(dir, { appends: 150, shell: 'ulimit -f 1024' })
  const seen: string[] = []
  for await (const line of lines) seen.push(line)
  await closed
  t.equal(child.exitCode, 0)
  const stored = seen.filter((line) => line.startsWith('stored'))
  t.ok(stored.length > 10 && stored.length < 140, `${stored.length} of 150 were taken`)
  t.same(new Set(seen.filter((line) => !line.startsWith('stored'))), new Set(['refused CC_STORE_UNAVAILABLE']))
  await assertWhole(t, dir, stored.length * 100)
})

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
