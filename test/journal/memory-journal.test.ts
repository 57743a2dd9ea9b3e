import fc from 'fast-check'
import t from 'tap'
import type { JournalBounds } from '../../src/journal/journal.ts'
import { MemoryJournal } from '../../src/journal/memory-journal.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_730 })

const wide: JournalBounds = { maxEvents: 1_000_000, maxBytes: 1_000_000_000, maxAgeMs: 1_000_000_000 }
const read = (journal: MemoryJournal, after: number, maxBytes = 1_000_000_000) =>
  journal.readAfter(after, maxBytes)?.map(({ seq }) => seq)

t.test('an entry is the whole message, with the payload’s own bytes', async (t) => {
  const journal = new MemoryJournal(wide)
  const payload = Buffer.from('{"a": 1,  "b":"é\u2028"}')
  const { seq, message } = journal.append('event', payload)
  t.equal(seq, 1)
  t.equal(String(message), `{"type":"event","seq":1,"payload":${payload}}`)
  payload.fill(0x20)
  t.match(JSON.parse(String(journal.readAfter(0, 1)?.[0]?.message)), { payload: { a: 1 } }, 'a copy, not a view')
})

t.test('an empty journal', async (t) => {
  const journal = new MemoryJournal(wide)
  t.match([journal.lastSeq, journal.firstSeq], [0, 1])
  t.strictSame(read(journal, 0), [])
  t.not(journal.epoch, new MemoryJournal(wide).epoch)
})

t.test('reading stops at the byte limit, but gives at least one', async (t) => {
  const journal = new MemoryJournal(wide)
  const size = journal.append('event', Buffer.from('"x"')).message.length
  for (let i = 0; i < 4; i++) journal.append('event', Buffer.from('"x"'))
  t.strictSame(read(journal, 0, 1), [1])
  t.strictSame(read(journal, 0, size * 2), [1, 2])
  t.strictSame(read(journal, 3, size * 2), [4, 5])
  t.strictSame(read(journal, 5, 1), [])
})

t.test('the oldest go first, by number, bytes and age; who asks for them is told that they are gone', async (t) => {
  const byCount = new MemoryJournal({ ...wide, maxEvents: 3 })
  for (let i = 0; i < 10; i++) byCount.append('event', Buffer.from('1'))
  t.match([byCount.firstSeq, byCount.lastSeq], [8, 10])
  t.equal(byCount.readAfter(6, 1000), undefined)
  t.strictSame(read(byCount, 7), [8, 9, 10])

  const byBytes = new MemoryJournal({ ...wide, maxBytes: 1000 })
  byBytes.append('event', Buffer.alloc(400, '1'))
  byBytes.append('event', Buffer.alloc(400, '1'))
  byBytes.append('event', Buffer.alloc(400, '1'))
  t.equal(byBytes.firstSeq, 2)
  byBytes.append('event', Buffer.alloc(2000, '1'))
  t.match([byBytes.firstSeq, byBytes.lastSeq], [5, 4], 'one that is larger than all is not kept')
  t.equal(byBytes.readAfter(3, 1000), undefined)
  t.strictSame(read(byBytes, 4), [])

  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  const byAge = new MemoryJournal({ ...wide, maxAgeMs: 1000 })
  byAge.append('event', Buffer.from('1'))
  Date.now = () => now() + 1500
  byAge.append('event', Buffer.from('2'))
  t.strictSame([byAge.firstSeq, read(byAge, 1)], [2, [2]])
})

t.test(
  'whatever is appended and read: what is there is a run up to the newest, and nothing is held beyond the bounds',
  async (t) => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 3000 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1024, max: 4096 }),
        (sizes, maxEvents, maxBytes) => {
          const journal = new MemoryJournal({ ...wide, maxEvents, maxBytes })
          for (const size of sizes) journal.append('event', Buffer.alloc(size, '1'))
          const { firstSeq, lastSeq } = journal
          const held = journal.readAfter(firstSeq - 1, Number.MAX_SAFE_INTEGER) ?? []
          const bytes = held.reduce((sum, { message }) => sum + message.length, 0)
          return (
            lastSeq === sizes.length &&
            held.length === lastSeq - firstSeq + 1 &&
            held.every(({ seq }, index) => seq === firstSeq + index) &&
            held.length <= maxEvents &&
            bytes <= maxBytes &&
            (firstSeq === 1 || journal.readAfter(firstSeq - 2, 1) === undefined)
          )
        }
      ),
      { numRuns: 60 }
    )
    t.pass()
  }
)
