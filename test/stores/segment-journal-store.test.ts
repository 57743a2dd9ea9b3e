import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { Run } from '../../src/journal/run.ts'
import { SegmentJournalStore } from '../../src/stores/segment-journal-store.ts'
import { EVERYTHING, edges, HEAD, runOf, spans, stored, WIDE } from './journal-runs.ts'

const KILL_ROUNDS = process.env.FULL ? 100 : 4
// A round is one start of the writer: seconds on a busy machine.
t.setTimeout(KILL_ROUNDS * 10_000 + 60_000)

const MIB = 1024 * 1024
/** A segment spans a sixteenth of the age. */
const BRIEF = { ...WIDE, maxAgeMs: 60_000 }
const CLOSED = { ...HEAD, isOpen: false }

interface SegmentFile {
  path: string
  size: number
  mode: number
}

/** The files of all users, by the number they begin with. */
async function segmentFiles(dir: string): Promise<SegmentFile[]> {
  const names = await readdir(join(dir, 'users'), { recursive: true })
  const paths = names.filter((name) => name.endsWith('.segment')).map((name) => join(dir, 'users', name))
  const files = await Promise.all(paths.sort().map(async (path) => ({ path, stats: await stat(path) })))
  return files.map(({ path, stats }) => ({ path, size: stats.size, mode: stats.mode & 0o777 }))
}

/** Opens the store, which looks at the files anew, for as long as `use` takes. */
async function reopened<T>(dir: string, use: (store: SegmentJournalStore) => Promise<T>): Promise<T> {
  const store = await SegmentJournalStore.open(dir)
  return use(store).finally(() => store.close())
}

/** Runs that hold something else than was appended; one without frames is damaged, and says so. */
function wrong(runs: readonly Run[]): string {
  const isWrong = ({ firstSeq, lastSeq, frames }: Run) =>
    frames.length > 0 && !frames.equals(runOf(firstSeq, lastSeq).frames)
  return spans(runs.filter(isWrong))
}

t.test('expire removes what is old, and closed journals that have nothing left', async (t) => {
  const store = await SegmentJournalStore.open(t.testdir({}))
  const nowMs = Date.now()
  const old = (firstSeq: number, lastSeq: number) => runOf(firstSeq, lastSeq, { atMs: nowMs - 10_000 })
  const many = Array.from({ length: 150 }, (_, n) => `u${n}`)
  for (const userId of ['open', 'closed', 'mixed', 'young', ...many]) await store.putHead(userId, HEAD)
  for (const userId of ['open', 'closed', 'mixed', ...many]) await store.append(userId, [old(1, 5), old(6, 9)], BRIEF)
  for (const userId of ['mixed', 'young']) await store.append(userId, [runOf(10, 12)], BRIEF)
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

t.test('a closed store refuses with a code, after what it was told to write', async (t) => {
  const dir = t.testdir({})
  const store = await SegmentJournalStore.open(dir)
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
  const again = await SegmentJournalStore.open(dir)
  t.strictSame((await again.read('gil', 0, 1))[0]?.frames, runOf(1, 500).frames)
  await again.close()
})

t.test('the files hold no more than the bound, a part of it, and the headers', async (t) => {
  const dir = t.testdir({})
  const store = await SegmentJournalStore.open(dir)
  await store.putHead('ana', HEAD)
  const maxBytes = 4 * MIB
  const source = Buffer.alloc(256 * 1024, 'x')
  let most = 0
  for (let seq = 1, total = 0; total < 20 * maxBytes; seq++) {
    const bytes = 1 + ((seq * 7_919) % source.length) ** (seq % 3 === 0 ? 1 : 0.8)
    const run = { firstSeq: seq, lastSeq: seq, atMs: Date.now(), frames: source.subarray(0, bytes) }
    await store.append('ana', [run], { ...WIDE, maxBytes })
    total += run.frames.length
    if (seq % 20 === 0)
      most = Math.max(
        most,
        (await segmentFiles(dir)).reduce((sum, { size }) => sum + size, 0)
      )
  }
  const held = (await store.read('ana', 0, EVERYTHING)).reduce((sum, { frames }) => sum + frames.length, 0)
  await store.close()
  t.ok(held >= maxBytes, `${held} bytes are kept`)
  // The largest run may be one segment alone.
  t.ok(most < maxBytes * (1 + 1 / 16) + source.length + 64 * 1024, `${most} bytes of files for ${maxBytes}`)
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
  const store = await SegmentJournalStore.open(dir)
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

t.test(`killed ${KILL_ROUNDS} times, a journal keeps every append that resolved`, async (t) => {
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
    const store = await SegmentJournalStore.open(dir)
    ackedSeq = (await store.load('ana'))?.lastSeq ?? 0
    await store.close()
  }
})

t.test('a disk that is full refuses with a code, ends no process and loses nothing that resolved', async (t) => {
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

t.test(
  'wherever a kill cut the last append off: what resolved before is there, whole, and it goes on behind',
  async (t) => {
    const dir = t.testdir({})
    const sizes: number[] = []
    await reopened(dir, async (store) => {
      await store.putHead('ana', HEAD)
      for (const runs of [[runOf(1, 3), runOf(4, 4)], [runOf(5, 6)], [runOf(7, 8), runOf(9, 10)]]) {
        await store.append('ana', runs, WIDE)
        sizes.push((await segmentFiles(dir))[0]?.size ?? 0)
      }
    })
    const [file] = await segmentFiles(dir)
    const path = file?.path ?? ''
    const whole = await readFile(path)
    const [, before = 0, end = 0] = sizes
    t.equal(whole.length, end)
    for (let cut = before; cut < end; cut += 1 + (cut % 13)) {
      // What a crash of the machine leaves behind the cut may be zeros.
      const zeros = Buffer.alloc(cut % 3 === 0 ? end - cut : 0)
      await writeFile(path, Buffer.concat([whole.subarray(0, cut), zeros]))
      await reopened(dir, async (store) => {
        if ((await edges(store, 'ana'))[1] !== 6) t.fail(`cut at ${cut} of ${end}: ${await edges(store, 'ana')}`)
        if ((await segmentFiles(dir))[0]?.size !== before) t.fail(`cut at ${cut} of ${end}: a rest stays`)
        await store.append('ana', [runOf(7, 12)], WIDE)
      })
      const runs = await reopened(dir, (store) => store.read('ana', 0, EVERYTHING))
      if (spans(runs) !== '1-3 4-4 5-6 7-12' || wrong(runs) !== '') t.fail(`cut at ${cut} of ${end}: ${spans(runs)}`)
    }

    await writeFile(path, whole.subarray(0, 100))
    await reopened(dir, async (store) => {
      t.same(await edges(store, 'ana'), [1, 0], 'an append that was the first of its segment')
      t.same(await segmentFiles(dir), [])
      await store.putHead('ana', { ...HEAD, epoch: 'e2', lastSeq: 10 })
      await store.append('ana', [runOf(11, 12)], WIDE)
      t.equal(await stored(store, 'ana'), '11-12')
    })
  }
)

t.test(
  'whichever byte is flipped: no wrong byte is read, the run is said to be damaged, others are not lost',
  async (t) => {
    const dir = t.testdir({})
    const bounds = { ...WIDE, maxEvents: 16 * 6 }
    const store = await SegmentJournalStore.open(dir)
    t.teardown(() => store.close())
    await store.putHead('ana', HEAD)
    for (const runs of [[runOf(1, 2), runOf(3, 4)], [runOf(5, 6)], [runOf(7, 8)], [runOf(9, 12)]]) {
      await store.append('ana', runs, bounds)
    }
    const [first] = await segmentFiles(dir)
    t.equal((await segmentFiles(dir)).length, 2)
    const path = first?.path ?? ''
    const whole = await readFile(path)
    let damaged = 0
    for (let at = 0; at < whole.length; at += 1 + (at % 11)) {
      const bytes = Buffer.from(whole)
      bytes[at] = (bytes[at] as number) ^ (1 << (at % 8))
      await writeFile(path, bytes)
      const runs = await store.read('ana', 0, EVERYTHING)
      const events = runs.reduce((sum, { firstSeq, lastSeq }) => sum + lastSeq - firstSeq + 1, 0)
      damaged += runs.filter(({ frames }) => frames.length === 0).length
      if (wrong(runs) !== '' || events > 12 || runs.at(-1)?.frames.length === 0)
        t.fail(`flipped at ${at}: ${spans(runs)}`)
      // As the next gateway finds it.
      await store.putHead('ana', CLOSED)
      t.equal((await store.load('ana'))?.lastSeq, 12)
      const later = await store.read('ana', 0, EVERYTHING)
      if (wrong(later) !== '' || later.at(-1)?.lastSeq !== 12) t.fail(`flipped at ${at}, then: ${spans(later)}`)
      await store.putHead('ana', CLOSED)
    }
    t.ok(damaged > 50, `${damaged} runs were found to be damaged`)
    await writeFile(path, whole)
    await store.putHead('ana', CLOSED)
    t.equal(await stored(store, 'ana'), '1-2 3-4 5-6 7-8 9-12')

    const flip = Buffer.from(whole)
    flip[56 + 20] = (flip[56 + 20] as number) ^ 1
    await writeFile(path, flip)
    const lengths = (await store.read('ana', 0, EVERYTHING)).map(({ frames }) => frames.length > 0)
    t.strictSame(lengths, [false, true, true, true, true], 'a byte of the frames costs their run only')
  }
)

t.test('beside appends, trims and a delete a reader gets the right bytes in order, or a gap', async (t) => {
  const dir = t.testdir({})
  const store = await SegmentJournalStore.open(dir)
  t.teardown(() => store.close())
  await store.putHead('ana', HEAD)
  const bounds = { ...WIDE, maxEvents: 64 }
  const LAST = 2_000
  let writtenSeq = 0
  const write = async () => {
    for (; writtenSeq < LAST; writtenSeq += 5)
      await store.append('ana', [runOf(writtenSeq + 1, writtenSeq + 5)], bounds)
  }
  let gaps = 0
  /** Reads when it is so many events behind. */
  const follow = async (maxBytes: number, lag: number) => {
    for (let at = 0; at < LAST; ) {
      while (writtenSeq < Math.min(at + lag, LAST)) await nextTurn()
      const runs = await store.read('ana', at, maxBytes)
      if (wrong(runs) !== '' || runs.some(({ frames }) => frames.length === 0)) t.fail(`after ${at}: ${spans(runs)}`)
      for (const { firstSeq, lastSeq } of runs) {
        if (lastSeq <= at) t.fail(`${firstSeq}-${lastSeq} after ${at}`)
        if (firstSeq > at + 1) gaps++
        at = lastSeq
      }
    }
  }
  // Always from the start: what it is about to read is what goes next.
  let isWriting = true
  const startOver = async () => {
    while (isWriting) if (wrong(await store.read('ana', 0, EVERYTHING)) !== '') t.fail('from the start')
  }
  const written = write().finally(() => {
    isWriting = false
  })
  await Promise.all([written, follow(1, 1), follow(20_000, 50), follow(20_000, 200), startOver(), startOver()])
  t.ok(gaps > 0, `${gaps} gaps`)

  for (let round = 0; round < 50; round++) {
    await store.putHead('ben', HEAD)
    await store.append('ben', [runOf(1, 20)], WIDE)
    const [read] = await Promise.all([store.read('ben', 0, EVERYTHING), store.delete('ben')])
    if (wrong(read) !== '') t.fail('beside a delete')
  }

  await store.append('ana', [runOf(LAST + 1, LAST + 5)], bounds)
  const files = await segmentFiles(dir)
  await rm(files[3]?.path ?? '')
  const rest = await store.read('ana', 0, EVERYTHING)
  t.equal(wrong(rest), '')
  t.equal(rest.at(-1)?.lastSeq, LAST + 5, 'a file that somebody removed is a hole')
  for (const { path } of files) await rm(path, { force: true })
  t.same(await store.read('ana', 0, EVERYTHING), [])
})

t.test('a reader that goes on where it stopped reads each byte about once', async (t) => {
  const dir = t.testdir({})
  const store = await SegmentJournalStore.open(dir)
  t.teardown(() => store.close())
  await store.putHead('ana', HEAD)
  const runs = Array.from({ length: 1_500 }, (_, n) => runOf(n * 10 + 1, n * 10 + 10))
  await store.append('ana', runs, WIDE)
  const [file] = await segmentFiles(dir)
  const bytesBefore = await bytesRead()
  let reads = 0
  for (let at = 0; at < 15_000; reads++) at = (await store.read('ana', at, 32 * 1024)).at(-1)?.lastSeq ?? EVERYTHING
  const bytes = (await bytesRead()) - bytesBefore
  t.ok(reads > 100, `${reads} reads`)
  t.ok(bytes < 1.5 * (file?.size ?? 0), `${bytes} bytes read of a file of ${file?.size}`)
})

/** By this process, from files and caches alike. */
async function bytesRead(): Promise<number> {
  return Number(/^rchar: (\d+)$/m.exec(await readFile('/proc/self/io', 'utf8'))?.[1])
}

t.test('however many journals are written at once, few files are open; nobody else may read them', async (t) => {
  const dir = join(t.testdir({}), 'data')
  const store = await SegmentJournalStore.open(dir)
  t.teardown(() => store.close())
  const userIds = Array.from({ length: 600 }, (_, n) => `u${n}`)
  await Promise.all(userIds.map((userId) => store.putHead(userId, HEAD)))
  const openFiles = async () => (await readdir('/proc/self/fd')).length
  const openBefore = await openFiles()
  let mostOpen = 0
  let isWriting = true
  const watch = async () => {
    while (isWriting) mostOpen = Math.max(mostOpen, await openFiles())
  }
  const watching = watch()
  await Promise.all(userIds.map((userId, n) => store.append(userId, [runOf(1, 1 + (n % 5))], WIDE)))
  isWriting = false
  await watching
  t.ok(mostOpen > openBefore, 'it was looked at in time')
  t.ok(mostOpen <= openBefore + 70, `${mostOpen} files were open, ${openBefore} before`)
  t.same(await Promise.all([0, 4, 599].map((n) => stored(store, `u${n}`))), ['1-1', '1-5', '1-5'])
  const directories = [
    dir,
    join(dir, 'heads'),
    join(dir, 'users'),
    join(dir, 'users', (await readdir(join(dir, 'users')))[0] ?? '')
  ]
  for (const directory of directories) t.equal((await stat(directory)).mode & 0o777, 0o700, directory)
  const files = await segmentFiles(dir)
  t.equal(files.length, 600)
  t.ok(files.every(({ path, mode }) => mode === 0o600 && !/u599/.test(path)))
})

/** False, or why the test is skipped: a file system of a megabyte is a mount, which needs root. */
const mountMissing =
  process.getuid?.() === 0 && spawnSync('mount', ['--version']).status === 0 ? false : 'needs root and mount'

t.test(
  'a file system without space refuses with a code, keeps what resolved, and takes the rest later',
  { skip: mountMissing },
  async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'cc-small-'))
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=0700', 'tmpfs', dir])
    if (mounted.status !== 0) {
      t.pass('a small file system', { skip: `mount: ${mounted.stderr}` })
      return
    }
    const ballast = join(dir, 'ballast')
    const store = await SegmentJournalStore.open(join(dir, 'data'))
    t.teardown(async () => {
      await store.close()
      spawnSync('umount', [dir])
      await rm(dir, { recursive: true })
    })
    await store.putHead('ana', HEAD)
    await store.append('ana', [runOf(1, 100)], WIDE)
    await writeFile(ballast, Buffer.alloc(1_500_000)).catch(() => {})
    let lastSeq = 100
    const next = () => [runOf(lastSeq + 1, lastSeq + 70), runOf(lastSeq + 71, lastSeq + 100)]
    const refused = async () => {
      for (;;) {
        try {
          await store.append('ana', next(), WIDE)
          lastSeq += 100
        } catch (error) {
          return error as { code: string; message: string }
        }
      }
    }
    t.match(await refused(), { code: 'CC_STORE_UNAVAILABLE', message: /of \d+ bytes|ENOSPC/ })
    t.match(await refused(), { code: 'CC_STORE_UNAVAILABLE' }, 'and again')
    t.ok(lastSeq > 100, `${lastSeq} events`)
    t.same(await edges(store, 'ana'), [1, lastSeq])
    t.equal(wrong(await store.read('ana', 0, EVERYTHING)), '')
    await rm(ballast)
    await store.append('ana', next(), WIDE)
    lastSeq += 100
    const runs = await store.read('ana', 0, EVERYTHING)
    t.ok(
      Buffer.concat(runs.map(({ frames }) => frames)).equals(runOf(1, lastSeq).frames),
      'every byte is as it was appended'
    )
    await store.putHead('ana', CLOSED)
    t.same(await edges(store, 'ana'), [1, lastSeq], 'also as the next gateway finds it')
  }
)
