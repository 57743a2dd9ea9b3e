import { setImmediate as nextLoop } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { encodeFrame, messagesIn } from '../../src/journal/frames.ts'
import { JournalWriter } from '../../src/journal/journal-writer.ts'
import { SessionJournal } from '../../src/journal/session-journal.ts'
import { type ClientSink, SessionClient } from '../../src/session/client.ts'
import { FaultyJournalStore } from '../support/faulty-journal-store.ts'
import { eventually } from '../support/processes.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_730 })

/** A sink whose reader is the test: what was sent waits until it is drained. */
class TestSink implements ClientSink {
  readonly sent: string[] = []
  readonly drains: (() => void)[] = []
  bufferedBytes = 0
  mostBuffered = 0
  closed: [number, string] | undefined

  send(frames: readonly Buffer[]): void {
    for (const frame of frames) {
      for (const message of messagesIn(frame)) this.sent.push(String(message))
      this.bufferedBytes += frame.length
    }
    this.mostBuffered = Math.max(this.mostBuffered, this.bufferedBytes)
  }

  onDrained(callback: () => void): void {
    this.drains.push(callback)
  }

  drain(): void {
    this.bufferedBytes = 0
    for (const callback of this.drains.splice(0)) callback()
  }

  close(code: number, reason: string): void {
    this.closed = [code, reason]
  }
}

async function setUp(maxEvents = 1_000_000) {
  const store = new FaultyJournalStore()
  const bounds = { maxEvents, maxBytes: 1_000_000_000, maxAgeMs: 1_000_000_000 }
  const writer = new JournalWriter({ store, bounds, onHealth() {}, onDamaged() {} })
  const journal = await SessionJournal.open({ userId: 'alice', writer, onPressure() {} })
  t.teardown(() => writer.close())
  const sink = new TestSink()
  const client = new SessionClient(sink, journal, (from, to) => [encodeFrame({ gap: [from, to] })])
  const append = (count: number, size = 10) => {
    const payload = Buffer.from(JSON.stringify('x'.repeat(size)))
    for (let index = 0; index < count; index++) journal.append('event', payload, 0, payload.length)
  }
  const flush = (target = client) => {
    const runs = journal.takeNew()
    const frames = runs.map((run) => run.frames)
    target.deliver(runs, frames)
  }
  /** Numbers that were received, or told as a gap, in order. */
  const covered = () =>
    sink.sent.flatMap((text) => {
      const { seq, gap } = JSON.parse(text)
      return gap ? Array.from({ length: gap[1] - gap[0] + 1 }, (_, index) => gap[0] + index) : seq
    })
  /** Lets the sink's reader read until the client has all. */
  const settle = async () => {
    for (let rounds = 0; client.state !== 'live' && rounds < 1000; rounds++) {
      sink.drain()
      await nextLoop()
    }
  }
  return { store, writer, journal, sink, client, append, flush, covered, settle }
}

const run = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
const LARGE = 300 * 1024

t.test('a client starts behind what is there already', async (t) => {
  const { journal, sink, append, flush } = await setUp()
  append(3)
  flush(new SessionClient(new TestSink(), journal, () => []))
  const client = new SessionClient(sink, journal, () => [])
  append(2)
  flush(client)
  t.strictSame(
    sink.sent.map((text) => JSON.parse(text).seq),
    [4, 5]
  )
})

t.test('a slow one falls behind, takes no more memory than the mark, and catches up from the journal', async (t) => {
  const { client, sink, append, flush, covered, settle } = await setUp()
  for (let round = 0; round < 50; round++) {
    append(1, LARGE)
    flush()
  }
  t.equal(client.state, 'catching-up')
  t.ok(sink.mostBuffered < 2 * 1024 * 1024, `${sink.mostBuffered} bytes`)
  await settle()
  append(3)
  flush()
  t.strictSame(covered(), run(1, 53))
  t.ok(sink.mostBuffered < 2 * 1024 * 1024, 'not while it catches up either')
})

t.test('what the journal dropped meanwhile is a gap', async (t) => {
  const { client, sink, append, flush, covered, settle } = await setUp(5)
  for (let round = 0; round < 50; round++) {
    append(1, LARGE)
    flush()
  }
  await settle()
  t.ok(sink.sent.some((text) => text.includes('gap')))
  t.strictSame(covered(), run(1, 50))
  t.equal(client.state, 'live')
})

t.test('a resume repeats from its place; one of another past gets a gap up to now', async (t) => {
  const { client, journal, sink, append, flush, covered } = await setUp()
  append(5)
  flush()
  client.resume({ epoch: journal.epoch, since: 2 })
  t.strictSame(covered(), [1, 2, 3, 4, 5, 3, 4, 5])
  client.resume({ epoch: journal.epoch, since: 5 })
  t.equal(sink.sent.length, 8)
  client.resume({ epoch: 'another', since: 5 })
  t.strictSame(JSON.parse(sink.sent.at(-1) ?? ''), { gap: [1, 5] })
  client.resume({ epoch: journal.epoch, since: 6 })
  t.strictSame(JSON.parse(sink.sent.at(-1) ?? ''), { gap: [1, 5] })
  append(1)
  flush()
  t.equal(JSON.parse(sink.sent.at(-1) ?? '').seq, 6)
})

t.test('a closed one gets nothing any more, and stays closed', async (t) => {
  const { client, journal, sink, append, flush } = await setUp()
  for (let round = 0; round < 10; round++) {
    append(1, LARGE)
    flush()
  }
  client.close(1001, 'bye')
  const count = sink.sent.length
  t.strictSame(sink.closed, [1001, 'bye'])
  append(1)
  flush()
  client.resume({ epoch: journal.epoch, since: 0 })
  client.sendDirect({})
  sink.drain()
  t.equal(sink.sent.length, count)
  t.equal(client.state, 'closed')
})

t.test('one that resumes again while the store answers gets each number once', async (t) => {
  const { client, journal, sink, store, append, flush, covered, settle } = await setUp()
  append(600, 20_000)
  await journal.persist()
  let open = () => {}
  store.gate = new Promise((resolve) => {
    open = resolve
  })
  flush()
  sink.sent.length = 0
  client.resume({ epoch: journal.epoch, since: 0 })
  client.resume({ epoch: journal.epoch, since: 3 })
  append(2)
  flush()
  open()
  await settle()
  t.strictSame(covered(), run(4, 602))
})

t.test('one that reads from a store that is away waits, connected, and gets all when it is back', async (t) => {
  const { client, journal, sink, store, append, flush, covered } = await setUp()
  append(600, 20_000)
  await journal.persist()
  flush()
  sink.sent.length = 0
  store.isDown = true
  client.resume({ epoch: journal.epoch, since: 0 })
  sink.drain()
  await nextLoop()
  t.equal(client.state, 'catching-up')
  store.isDown = false
  while (client.state !== 'live') {
    sink.drain()
    await nextLoop()
  }
  t.strictSame(covered(), run(1, 600))
})

t.test('stored content that cannot be folded is replayed as it is', async (t) => {
  const { client, journal, sink, append, flush, settle } = await setUp()
  const broken = Buffer.from('{"method":"item/completed","params":{"item":{"id"')
  append(3)
  journal.append('event', broken, 0, broken.length)
  append(3)
  flush()
  await settle()
  sink.sent.length = 0
  client.resume({ epoch: journal.epoch, since: 1, compact: true })
  await eventually('it has all', 5_000, () => {
    sink.drain()
    return client.state === 'live'
  })
  t.strictSame(
    sink.sent.map((text) => /"seq":(\d+)/.exec(text)?.[1]),
    ['2', '3', '4', '5', '6', '7']
  )
})

t.test('whatever happens in whatever order, every number comes exactly once, in order', async (t) => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('append' as const),
      count: fc.integer({ min: 1, max: 20 }),
      size: fc.constantFrom(10, 1000, LARGE)
    }),
    fc.record({ do: fc.constantFrom('flush' as const, 'drain' as const, 'resume' as const, 'persist' as const) })
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.constantFrom(3, 50, 1_000_000), async (steps, maxEvents) => {
      const { journal, client, sink, append, flush, covered, settle } = await setUp(maxEvents)
      for (const action of steps) {
        if (action.do === 'append') append(action.count, action.size)
        else if (action.do === 'flush') flush()
        else if (action.do === 'drain') sink.drain()
        else if (action.do === 'persist') await journal.persist()
        else client.resume({ epoch: journal.epoch, since: Math.max(0, covered().at(-1) ?? 0) })
      }
      flush()
      await settle()
      return JSON.stringify(covered()) === JSON.stringify(run(1, journal.lastSeq))
    }),
    { numRuns: 200 }
  )
  t.pass()
})
