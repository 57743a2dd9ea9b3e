import fc from 'fast-check'
import t from 'tap'
import type { JournalEntry } from '../../src/journal/journal.ts'
import { MemoryJournal } from '../../src/journal/memory-journal.ts'
import { type ClientSink, SessionClient } from '../../src/session/client.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_730 })

/** A sink whose reader is the test: what was sent waits until it is drained. */
class TestSink implements ClientSink {
  readonly sent: string[] = []
  readonly drains: (() => void)[] = []
  bufferedBytes = 0
  mostBuffered = 0
  closed: [number, string] | undefined

  send(messages: readonly Buffer[]): void {
    for (const message of messages) {
      this.sent.push(String(message))
      this.bufferedBytes += message.length
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

function setUp(maxEvents = 1_000_000) {
  const journal = new MemoryJournal({ maxEvents, maxBytes: 1_000_000_000, maxAgeMs: 1_000_000_000 })
  const sink = new TestSink()
  const client = new SessionClient(sink, journal, (from, to) => [Buffer.from(JSON.stringify({ gap: [from, to] }))])
  const append = (count: number, size = 10) =>
    Array.from({ length: count }, () => journal.append('event', Buffer.from(JSON.stringify('x'.repeat(size)))))
  /** Numbers that were received, or told as a gap, in order. */
  const covered = () =>
    sink.sent.flatMap((text) => {
      const { seq, gap } = JSON.parse(text)
      return gap ? Array.from({ length: gap[1] - gap[0] + 1 }, (_, index) => gap[0] + index) : seq
    })
  return { journal, sink, client, append, covered }
}

const run = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
const LARGE = 300 * 1024

t.test('a client starts behind what is there already', async (t) => {
  const { journal, sink, append } = setUp()
  append(3)
  const client = new SessionClient(sink, journal, () => [])
  client.deliver(append(2))
  t.strictSame(
    sink.sent.map((text) => JSON.parse(text).seq),
    [4, 5]
  )
})

t.test('a slow one falls behind, takes no more memory than the mark, and catches up from the journal', async (t) => {
  const { client, sink, append, covered } = setUp()
  for (let round = 0; round < 50; round++) client.deliver(append(1, LARGE))
  t.equal(client.state, 'catching-up')
  t.ok(sink.mostBuffered < 2 * 1024 * 1024, `${sink.mostBuffered} bytes`)
  while (client.state !== 'live') sink.drain()
  client.deliver(append(3))
  t.strictSame(covered(), run(1, 53))
  t.ok(sink.mostBuffered < 2 * 1024 * 1024, 'not while it catches up either')
})

t.test('what the journal dropped meanwhile is a gap', async (t) => {
  const { client, sink, append, covered } = setUp(5)
  for (let round = 0; round < 50; round++) client.deliver(append(1, LARGE))
  while (client.state !== 'live') sink.drain()
  t.ok(sink.sent.some((text) => text.includes('gap')))
  t.strictSame(covered(), run(1, 50))
})

t.test('a resume repeats from its place; one of another past gets a gap up to now', async (t) => {
  const { client, journal, sink, append, covered } = setUp()
  client.deliver(append(5))
  client.resume({ epoch: journal.epoch, since: 2 })
  t.strictSame(covered(), [1, 2, 3, 4, 5, 3, 4, 5])
  client.resume({ epoch: journal.epoch, since: 5 })
  t.equal(sink.sent.length, 8)
  client.resume({ epoch: 'another', since: 5 })
  t.strictSame(JSON.parse(sink.sent.at(-1) ?? ''), { gap: [1, 5] })
  client.resume({ epoch: journal.epoch, since: 6 })
  t.strictSame(JSON.parse(sink.sent.at(-1) ?? ''), { gap: [1, 5] })
  client.deliver(append(1))
  t.equal(JSON.parse(sink.sent.at(-1) ?? '').seq, 6)
})

t.test('a closed one gets nothing any more, and stays closed', async (t) => {
  const { client, journal, sink, append } = setUp()
  for (let round = 0; round < 10; round++) client.deliver(append(1, LARGE))
  client.close(1001, 'bye')
  const count = sink.sent.length
  t.strictSame(sink.closed, [1001, 'bye'])
  client.deliver(append(1))
  client.resume({ epoch: journal.epoch, since: 0 })
  client.sendDirect(Buffer.from('{}'))
  sink.drain()
  t.equal(sink.sent.length, count)
  t.equal(client.state, 'closed')
})

t.test('whatever happens in whatever order, every number comes exactly once, in order', async (t) => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('append' as const),
      count: fc.integer({ min: 1, max: 20 }),
      size: fc.constantFrom(10, 1000, LARGE)
    }),
    fc.record({ do: fc.constant('flush' as const) }),
    fc.record({ do: fc.constant('drain' as const) }),
    fc.record({ do: fc.constant('resume' as const) })
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(3, 50, 1_000_000), (steps, maxEvents) => {
      const { client, journal, sink, append, covered } = setUp(maxEvents)
      // As Broadcast does it: entries have their numbers first and are handed out later, in batches.
      let batch: JournalEntry[] = []
      const flush = () => {
        if (batch.length > 0) client.deliver(batch)
        batch = []
      }
      for (const action of steps) {
        if (action.do === 'append') batch.push(...append(action.count, action.size))
        else if (action.do === 'flush') flush()
        else if (action.do === 'drain') sink.drain()
        else client.resume({ epoch: journal.epoch, since: Math.max(0, covered().at(-1) ?? 0) })
      }
      flush()
      for (let rounds = 0; client.state !== 'live' && rounds < 1000; rounds++) sink.drain()
      return JSON.stringify(covered()) === JSON.stringify(run(1, journal.lastSeq))
    }),
    { numRuns: 200 }
  )
  t.pass()
})
