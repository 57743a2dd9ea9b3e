import { setImmediate as nextLoop } from 'node:timers/promises'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { encodeFrame, messagesIn, skipFrames } from '../../src/journal/frames.ts'
import type { JournalBounds } from '../../src/journal/journal.ts'
import { JournalWriter } from '../../src/journal/journal-writer.ts'
import type { Run } from '../../src/journal/run.ts'
import { SessionJournal } from '../../src/journal/session-journal.ts'
import { FaultyJournalStore } from '../support/faulty-journal-store.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_730 })

const wide: JournalBounds = { maxEvents: 10_000_000, maxBytes: 1_000_000_000, maxAgeMs: 1_000_000_000 }

/** The beginning of a header with a length in 64 bits. */
const LONG_HEADER = Buffer.from([0x81, 127, 0])

interface SetUp {
  store?: FaultyJournalStore
  bounds?: JournalBounds
}

/** A journal of alice's as a gateway opens it; `crash` leaves it as a SIGKILL would. */
async function open(t: Test, { store = new FaultyJournalStore(), bounds = wide }: SetUp = {}) {
  const health: boolean[] = []
  const damaged: boolean[] = []
  const pressure: boolean[] = []
  const writer = new JournalWriter({
    store,
    bounds,
    onHealth: (isHealthy) => health.push(isHealthy),
    onDamaged: () => damaged.push(true)
  })
  const journal = await SessionJournal.open({ userId: 'alice', writer, onPressure: (isHigh) => pressure.push(isHigh) })
  t.teardown(() => writer.close())
  const append = (payload: Buffer | string, type = 'event') => {
    const bytes = Buffer.from(payload)
    return journal.append(type, bytes, 0, bytes.length)
  }
  return { store, writer, journal, health, damaged, pressure, append, crash: () => writer.close() }
}

const texts = (runs: readonly Run[]) => runs.flatMap(({ frames }) => [...messagesIn(frames)].map(String))
const seqs = (runs: readonly Run[]) => texts(runs).map((text) => JSON.parse(text).seq as number)
const count = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

t.test('an event is one text frame with the payload’s own bytes, whatever its length', async (t) => {
  const { journal } = await open(t)
  const lengths = [2, 60, 84, 85, 86, 87, 88, 89, 90, 125, 126, 1000, 65_000, 65_490, 65_500, 65_536, 70_000, 300_000]
  const payloads = lengths.map((length) => Buffer.from(`"${'é'.repeat((length - 2) >> 1)}${length % 2 ? 'x' : ''}"`))
  for (const payload of payloads) {
    const inside = Buffer.concat([Buffer.from('##'), payload, Buffer.from('##')])
    journal.append('event', inside, 2, inside.length - 2)
    inside.fill(0x20)
  }
  const sent = texts(journal.takeNew())
  const expected = payloads.map((payload, index) => `{"type":"event","seq":${index + 1},"payload":${payload}}`)
  t.equal(sent.length, expected.length)
  expected.forEach((text, index) => {
    t.ok(sent[index] === text, `${lengths[index]} bytes`)
  })
})

t.test('a frame is what the WebSocket protocol says: final, text, unmasked, the shortest length', async (t) => {
  const header = (bytes: number) => encodeFrame('x'.repeat(bytes - 2)).subarray(0, 10)
  t.strictSame([...header(125).subarray(0, 2)], [0x81, 125])
  t.strictSame([...header(126).subarray(0, 4)], [0x81, 126, 0, 126])
  t.strictSame([...header(65_535).subarray(0, 4)], [0x81, 126, 0xff, 0xff])
  t.strictSame([...header(65_536)], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0])
})

t.test('numbers go on through every count of digits and every type', async (t) => {
  const { journal, append } = await open(t)
  for (let seq = 1; seq <= 1_200; seq++) append('1', seq % 7 === 0 ? 'approval/request' : 'event')
  const runs = journal.takeNew()
  t.strictSame(seqs(runs), count(1, 1_200))
  t.equal(JSON.parse(texts(runs)[6] ?? '').type, 'approval/request')
  t.strictSame(journal.takeNew(), [], 'each is taken once')
})

t.test('what was handed out never changes, and reading begins in the middle of a run', async (t) => {
  const { journal, append } = await open(t)
  const kept: { run: Run; text: string }[] = []
  for (let index = 0; index < 3_000; index++) {
    append(`"${'x'.repeat(index % 300)}"`)
    if (index % 11 === 0) for (const run of journal.takeNew()) kept.push({ run, text: run.frames.toString('latin1') })
  }
  t.ok(kept.every(({ run, text }) => run.frames.toString('latin1') === text))
  for (const seq of [0, 1, 17, 1_500, 2_999, 3_000]) {
    t.strictSame(seqs(await journal.read(seq, Number.MAX_SAFE_INTEGER)), count(seq + 1, 3_000), `after ${seq}`)
  }
  const some = await journal.read(0, 2_000)
  t.ok(seqs(some).length < 100, 'not more than was asked for')
  t.equal(skipFrames((some[0] as Run).frames, 0, 0), 0)
})

t.test(
  'memory is used again in a flood, but never while a client, a reader or the store may still read it',
  async (t) => {
    const bounds = { ...wide, maxEvents: 3_000 }
    const payload = Buffer.from(`"${'x'.repeat(1_000)}"`)
    const flood = (journal: SessionJournal, seen = (_run: Run) => {}) => {
      for (let index = 0; index < 27_000; index++) {
        journal.append('event', payload, 0, payload.length)
        if (index % 50 === 0) journal.takeNew().forEach(seen)
      }
    }
    const memories = (journal: SessionJournal) => {
      const found = new Set<ArrayBufferLike>()
      flood(journal, ({ frames }) => found.add(frames.buffer))
      return found.size
    }
    const unwatched = await open(t, { bounds })
    const watched = await open(t, { bounds })
    watched.journal.watchClients(() => true)
    t.ok(memories(watched.journal) < memories(unwatched.journal) / 2, 'used again where all has been sent')

    const kept: { run: Run; text: string }[] = []
    const keep = (run: Run) => kept.push({ run, text: run.frames.toString('latin1') })
    let isSent = false
    const slow = await open(t, { bounds })
    slow.journal.watchClients(() => isSent)
    flood(slow.journal, keep)
    slow.journal.holdTaken()
    isSent = true
    flood(slow.journal)
    flood(slow.journal)
    t.ok(
      kept.every(({ run, text }) => run.frames.toString('latin1') === text),
      'of a client that has not sent all'
    )

    kept.length = 0
    for (const run of await watched.journal.read(watched.journal.lastSeq - 1_000, 1e9)) keep(run)
    flood(watched.journal)
    t.ok(kept.length > 0 && kept.every(({ run, text }) => run.frames.toString('latin1') === text), 'of a reader')

    const storing = await open(t, { bounds })
    storing.journal.watchClients(() => true)
    flood(storing.journal)
    let answer = () => {}
    storing.store.gate = new Promise((resolve) => {
      answer = resolve
    })
    const persisted = storing.journal.persist()
    flood(storing.journal)
    answer()
    await persisted
    const stored = storing.store.journals.get('alice')?.runs ?? []
    t.strictSame(seqs(stored), count(seqs(stored)[0] ?? 0, 54_000), 'of a store that takes its time')
  }
)

t.test('what leaves memory is read from the store, without a seam', async (t) => {
  const { journal, append, store } = await open(t)
  for (let index = 0; index < 2_000; index++) append(`"${'x'.repeat(1_000)}"`)
  await journal.persist()
  for (let index = 0; index < 500; index++) append(`"${'x'.repeat(9_000)}"`)
  await journal.persist()
  t.ok(store.writes > 1)
  let cursor = 0
  const found: number[] = []
  while (cursor < journal.lastSeq) {
    const runs = await journal.read(cursor, 100_000)
    found.push(...seqs(runs))
    cursor = found.at(-1) ?? Number.NaN
  }
  t.strictSame(found, count(1, 2_500))
})

t.test('closed in order, the next gateway goes on in the same epoch', async (t) => {
  const first = await open(t)
  first.append('1')
  first.append('2')
  await first.journal.close()
  const { journal, append } = await open(t, { store: first.store })
  t.equal(journal.epoch, first.journal.epoch)
  t.equal(append('3'), 3)
  t.strictSame(seqs(await journal.read(0, 1e9)), [1, 2], 'the stored ones first')
  t.strictSame(seqs(await journal.read(2, 1e9)), [3])
})

t.test(
  'killed, it goes on in a new epoch behind a hole, and clients of the old one resume up to what was stored',
  async (t) => {
    const first = await open(t)
    for (let index = 0; index < 5; index++) first.append('1')
    await first.journal.persist()
    for (let index = 0; index < 5; index++) first.append('1')
    await first.crash()

    const second = await open(t, { store: first.store })
    const { journal } = second
    t.not(journal.epoch, first.journal.epoch)
    t.equal(journal.lastSeq, 6, 'one number stands for what may be missing')
    t.equal(second.append('1'), 7)
    t.strictSame(seqs(await journal.read(3, 1e9)), [4, 5])
    t.strictSame(seqs(await journal.read(5, 1e9)), [7])
    const { epoch } = first.journal
    t.equal(journal.locate({ epoch, since: 3 }), 3)
    t.equal(journal.locate({ epoch, since: 9 }), 5, 'it received what was never stored: it goes on where that begins')
    t.equal(journal.locate({ epoch: journal.epoch, since: 7 }), 7)
    t.equal(journal.locate({ epoch: journal.epoch, since: 8 }), undefined)
    t.equal(journal.locate({ epoch: 'another', since: 1 }), undefined)

    await second.journal.persist()
    await second.crash()
    const third = await open(t, { store: first.store })
    t.equal(third.journal.locate({ epoch, since: 4 }), 4, 'also across two crashes')
    t.equal(third.journal.locate({ epoch: second.journal.epoch, since: 7 }), 7)
  }
)

t.test('a store that is away costs nothing that fits in memory, and is written when it is back', async (t) => {
  const { journal, append, store, writer, health } = await open(t)
  append('1')
  await journal.persist()
  store.isDown = true
  for (let index = 0; index < 9; index++) append('2')
  await t.rejects(journal.persist(), { code: 'CC_STORE_UNAVAILABLE' })
  t.strictSame(seqs(await journal.read(0, 1e9)), count(1, 10))
  await until(() => health.includes(false))
  t.notOk(writer.isHealthy)
  store.isDown = false
  await until(() => health.includes(true))
  t.strictSame(seqs(store.journals.get('alice')?.runs ?? []), count(1, 10))
})

t.test('a store that forgot what it had confirmed gets it again', async (t) => {
  const { journal, append, store, writer } = await open(t)
  for (let index = 0; index < 20; index++) append('1')
  await journal.persist()
  const stored = store.journals.get('alice')
  if (!stored) throw new Error('nothing stored')
  stored.runs = []
  stored.lastSeq = 12
  writer.distrustStore()
  append('1')
  await until(() => store.journals.get('alice')?.lastSeq === 21)
  t.strictSame(seqs(store.journals.get('alice')?.runs ?? []), count(13, 21))

  store.journals.clear()
  writer.distrustStore()
  await until(() => store.journals.get('alice')?.lastSeq === 21)
  t.match(store.journals.get('alice')?.head, { epoch: journal.epoch, isOpen: true })
})

t.test(
  'what waits for the store is bounded: by the bounds, by holding the source, or by dropping the oldest',
  async (t) => {
    const payload = Buffer.from(`"${'x'.repeat(100_000)}"`)
    const flood = (journal: SessionJournal, events: number) => {
      for (let index = 0; index < events; index++) journal.append('event', payload, 0, payload.length)
    }
    const bounded = await open(t, { bounds: { ...wide, maxEvents: 50 } })
    flood(bounded.journal, 1_000)
    t.ok(seqs(await bounded.journal.read(0, 1e9)).length <= 60)
    t.strictSame(bounded.pressure, [])

    const held = await open(t)
    flood(held.journal, 400)
    t.strictSame(held.pressure, [true], 'the source is told to wait')
    await held.journal.persist()
    t.strictSame(held.pressure, [true, false])
    t.strictSame(seqs(await readAll(held.journal)), count(1, 400), 'and nothing is missing')

    const cut = await open(t)
    cut.store.isDown = true
    cut.append('1')
    await until(() => !cut.writer.isHealthy)
    flood(cut.journal, 1_000)
    t.strictSame(cut.pressure, [], 'a source that waited for a store that is away would wait for as long')
    const left = seqs(cut.journal.takeNew().slice(-1))
    t.equal(left.at(-1), 1_001)
    t.ok(process.memoryUsage().external < 1e9)
    cut.store.isDown = false
    await until(() => cut.writer.isHealthy)
    await cut.journal.persist()
    const kept = seqs(await readAll(cut.journal))
    t.strictSame(kept, count(kept[0] ?? 0, 1_001), 'what was dropped is a hole at the old end')
    t.ok(kept.length > 200 && kept.length < 400, `${kept.length}`)
  }
)

t.test(
  'whatever is appended, stored, killed and reopened: what is read is in order, once, and only killed tails miss',
  async (t) => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('append' as const), count: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ do: fc.constantFrom('persist' as const, 'close' as const, 'kill' as const) })
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        let gateway = await open(t)
        const durable = new Set<number>()
        let volatile: number[] = []
        const settle = () => {
          for (const seq of volatile) durable.add(seq)
          volatile = []
        }
        for (const action of steps) {
          if (action.do === 'append') {
            for (let index = 0; index < action.count; index++) volatile.push(gateway.append(`"${'x'.repeat(index)}"`))
          } else if (action.do === 'persist') {
            await gateway.journal.persist()
            settle()
          } else {
            if (action.do === 'close') {
              await gateway.journal.close()
              settle()
            }
            volatile = []
            await gateway.crash()
            gateway = await open(t, { store: gateway.store })
          }
        }
        const expected = [...durable, ...volatile]
        return JSON.stringify(seqs(await readAll(gateway.journal))) === JSON.stringify(expected)
      }),
      { numRuns: 60 }
    )
    t.pass()
  }
)

t.test('what is damaged or too old in the store is a hole, and what lies behind it is read', async (t) => {
  const bounds = { ...wide, maxAgeMs: 60_000 }
  const first = await open(t, { bounds })
  const payload = `"${'x'.repeat(500)}"`
  for (let index = 0; index < 900; index++) first.append(payload)
  await first.journal.close()
  const stored = first.store.journals.get('alice')
  if (!stored) throw new Error('nothing stored')
  const frames = Buffer.concat(stored.runs.map((run) => run.frames))
  const part = (index: number): Run => ({
    firstSeq: index * 100 + 1,
    lastSeq: index * 100 + 100,
    atMs: Date.now(),
    frames: frames.subarray(skipFrames(frames, 0, index * 100), skipFrames(frames, 0, index * 100 + 100))
  })
  const old = (run: Run) => ({ ...run, atMs: Date.now() - 120_000 })
  const changed = (run: Run, at: number, byte: number) => {
    const frames = Buffer.from(run.frames)
    frames[at] = byte
    return { ...run, frames }
  }
  const damages: ((run: Run) => Run)[] = [
    old,
    old,
    (run) => run,
    // The length of the first frame, its text, its opcode; a last header that ends behind the run.
    (run) => changed(run, 3, 0x7f),
    (run) => changed(run, 300, 0xff),
    (run) => changed(run, 0, 0x82),
    (run) => ({ ...run, frames: Buffer.concat([run.frames.subarray(0, skipFrames(run.frames, 0, 99)), LONG_HEADER]) }),
    (run) => ({ ...run, frames: Buffer.alloc(0) }),
    (run) => run
  ]
  stored.runs = damages.map((damage, index) => damage(part(index)))
  const { journal, damaged } = await open(t, { store: first.store, bounds })
  t.strictSame(seqs(await readAll(journal)), [...count(201, 300), ...count(801, 900)])
  t.strictSame(seqs(await journal.read(0, 1)), count(201, 300), 'not only with what is behind it in hand')
  t.ok(damaged.length >= 5, 'and the operator hears of it')
})

t.test('a store that lost the journal’s beginning gets it again at the next write', async (t) => {
  const { journal, append, store } = await open(t)
  append('1')
  await journal.persist()
  store.journals.clear()
  append('1')
  await t.rejects(journal.persist())
  await journal.persist()
  t.match(store.journals.get('alice'), { head: { epoch: journal.epoch }, lastSeq: 2 })
})

async function readAll(journal: SessionJournal): Promise<Run[]> {
  const all: Run[] = []
  for (let cursor = 0; cursor < journal.lastSeq; ) {
    const runs = await journal.read(cursor, 1_000_000)
    if (runs.length === 0) break
    all.push(...runs)
    cursor = runs.at(-1)?.lastSeq ?? Number.NaN
  }
  return all
}

async function until(isTrue: () => boolean): Promise<void> {
  const endMs = Date.now() + 10_000
  while (!isTrue()) {
    if (Date.now() > endMs) throw new Error('it did not happen within 10 s')
    await nextLoop()
  }
}
