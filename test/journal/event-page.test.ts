import fc from 'fast-check'
import t from 'tap'
import { readEventPage } from '../../src/journal/event-page.ts'
import { readHead } from '../../src/journal/message-head.ts'
import { ThreadFilter } from '../../src/session/thread-filter.ts'
import { approval, completed, delta, event, journalOf, type Message, other, parse } from './streams.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_802 })

const everything = (message: Buffer) => message

/** All pages to the end of the journal. */
async function readAll(stream: readonly Message[], lastSeq: number, limit: number, isCompact: boolean, runLength = 7) {
  const journal = {
    ...journalOf(stream, () => runLength),
    epoch: 'e',
    lastSeq,
    takeNew: () => [],
    locate: () => undefined
  }
  const pages = []
  for (let afterSeq = 0; afterSeq < lastSeq; ) {
    const page = await readEventPage(journal, { afterSeq, limit, isCompact, pass: everything })
    if (page.nextSeq <= afterSeq) throw new Error(`no way forward from ${afterSeq}`)
    pages.push({ afterSeq, ...page, messages: page.messages.map(parse) })
    afterSeq = page.nextSeq
  }
  return pages
}

t.test(
  'whatever the stream, pages and gaps are all numbers, and each page alone accounts for what it left out',
  async (t) => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('delta' as const), item: fc.nat(4) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('completed' as const), item: fc.nat(4) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('other' as const), item: fc.constant(0) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('hole' as const), item: fc.constant(0) }) }
    )
    type Make = (seq: number, item: number) => Message | undefined
    const make: Record<string, Make> = { delta, completed, other, hole: () => undefined }
    const property = fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 80, size: 'max' }),
      fc.integer({ min: 1, max: 12 }),
      fc.boolean(),
      async (steps, limit, isCompact) => {
        const stream = steps.flatMap((action, index) => make[action.do]?.(index + 1, action.item) ?? [])
        let place = 0
        for (const page of await readAll(stream, steps.length, limit, isCompact)) {
          if (page.messages.length > limit) throw new Error('a page beyond its limit')
          const seen = new Set(page.messages.map(({ seq }) => seq))
          for (const { replaces } of page.messages) {
            for (let seq = replaces?.from ?? 1; seq <= (replaces?.to ?? 0); seq++) seen.add(seq)
          }
          for (let seq = page.gap?.from ?? 1; seq <= (page.gap?.to ?? 0); seq++) {
            if (stream.some((message) => message.seq === seq)) throw new Error('a gap where there is something')
            seen.add(seq)
          }
          for (let seq = place + 1; seq <= page.nextSeq; seq++) {
            if (!seen.delete(seq)) throw new Error(`${seq} is nowhere`)
          }
          if (seen.size > 0) throw new Error(`${[...seen]} are of other pages`)
          place = page.nextSeq
        }
        const bare = ({ replaces: _replaces, ...message }: Message) => JSON.stringify(message)
        const got = (await readAll(stream, steps.length, limit, isCompact)).flatMap((page) => page.messages.map(bare))
        const kept = stream.filter(({ payload }) => !isCompact || !payload.method.endsWith('/delta')).map(bare)
        if (!isCompact && got.join() !== kept.join()) throw new Error('an exact page is not exact')
        if (!kept.every((text) => got.includes(text))) throw new Error('more than deltas was left out')
      }
    )
    await t.resolves(fc.assert(property, { numRuns: 300 }))
  }
)

t.test('a page looks at so much and no more, also when it shows little of it', async (t) => {
  const size = 'x'.repeat(100_000)
  const stream = Array.from({ length: 100 }, (_, index) => event(index + 1, 'item/agentMessage/delta', { size }))
  const pages = await readAll(stream, 100, 1000, false, 2)
  t.ok(pages.length >= 2 && pages.length <= 4, `${pages.length} pages`)
  t.equal(
    pages.reduce((sum, { messages }) => sum + messages.length, 0),
    100
  )
})

t.test('behind the newest event there is an empty page, and no gap', async (t) => {
  const journal = {
    ...journalOf([other(1)], () => 1),
    epoch: 'e',
    lastSeq: 1,
    takeNew: () => [],
    locate: () => undefined
  }
  const page = await readEventPage(journal, { afterSeq: 1, limit: 5, isCompact: true, pass: everything })
  t.strictSame(page, { messages: [], nextSeq: 1 })
})

t.test('a journal that has lost everything says so once', async (t) => {
  t.strictSame(await readAll([], 50, 10, true), [{ afterSeq: 0, messages: [], nextSeq: 50, gap: { from: 1, to: 50 } }])
})

t.test('the head of a message is read from its first bytes', (t) => {
  t.strictSame(readHead(Buffer.from('{"type":"event","seq":120,"payload":{"seq":7}}')), { type: 'event', seq: 120 })
  t.strictSame(readHead(Buffer.from('{"type":"event","seq":9}')), { type: 'event', seq: 9 })
  const gap = { type: 'session/gap', seq: undefined }
  t.strictSame(readHead(Buffer.from('{"type":"session/gap","payload":{"seq":7}}')), gap)
  t.strictSame(readHead(Buffer.from('{"type":"pong"}')), { type: 'pong', seq: undefined })
  t.end()
})

t.test('the filter of a thread goes by whose an event is, not by what is written in it', (t) => {
  const mine = 'thread-1'
  const passes = (message: object) => new ThreadFilter(mine).pass(Buffer.from(JSON.stringify(message))) !== undefined
  const text = `,"params":{"threadId":"${mine}"`
  const own = { threadId: mine }
  const foreign = { threadId: 'thread-10' }
  for (const [params, isOwn] of [
    [{ ...own, text: 'a' }, true],
    [{ ...foreign, text }, false],
    [{ ...foreign, nested: { params: own } }, false],
    [{ item: { params: own, id: mine }, ...foreign }, false],
    [{ item: { params: foreign }, ...own }, true],
    [{ item: { text }, turnId: 'turn', ...own }, true],
    [{ thread: { id: mine } }, true],
    [{ thread: { id: 'thread-10', note: mine } }, false],
    [{ item: { id: mine } }, false],
    [{}, false]
  ] as const) {
    t.equal(passes(event(5, 'item/started', params)), isOwn, JSON.stringify(params))
  }
  t.ok(passes({ type: 'session/state', seq: 1, payload: { state: 'ready' } }))
  t.ok(passes({ type: 'session/gap', payload: { from: 1, to: 2 } }))
  t.notOk(passes({ ...approval(1), payload: { approvalId: 'a', ...foreign } }))
  t.ok(
    passes({ ...approval(1), payload: { approvalId: 'a', threadId: null } }),
    'an approval of no thread is everybody’s'
  )
  t.end()
})

t.test('the filter of a thread leaves out the ends of other threads’ approvals that it knows of', (t) => {
  const filter = new ThreadFilter('mine')
  const pass = (message: object) => filter.pass(Buffer.from(JSON.stringify(message)))
  const approvals = [
    { approvalId: 'a', threadId: 'mine' },
    { approvalId: 'b', threadId: 'other' }
  ]
  const picture = { threads: [{ threadId: 'other' }, { threadId: 'mine' }], pendingApprovals: approvals, epoch: 'e' }
  const narrowed = pass({ type: 'session/snapshot', payload: picture })
  t.strictSame(JSON.parse(String(narrowed)).payload, {
    threads: [{ threadId: 'mine' }],
    pendingApprovals: [approvals[0]],
    epoch: 'e'
  })
  for (const type of ['approval/reminder', 'approval/resolved']) {
    t.ok(pass({ type, seq: 1, payload: { approvalId: 'a' } }))
    t.notOk(pass({ type, seq: 2, payload: { approvalId: 'b' } }))
  }
  t.ok(pass({ type: 'approval/resolved', seq: 3, payload: { approvalId: 'never seen' } }))
  t.end()
})
