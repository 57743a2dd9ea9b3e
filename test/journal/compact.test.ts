import fc from 'fast-check'
import t from 'tap'
import { CompactReplay, INCREMENTS } from '../../src/journal/compact.ts'
import { messagesIn } from '../../src/journal/frames.ts'
import { binaryNotifications } from '../support/codex-schema.ts'
import { approval, completed, delta, event, journalOf, type Message, other, parse } from './streams.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_801 })

/** As SessionClient does it: a piece after the other. */
async function replay(journal: ReturnType<typeof journalOf>, afterSeq: number, untilSeq: number, pieceBytes = 4096) {
  const source = new CompactReplay(journal, afterSeq, untilSeq)
  const messages: Message[] = []
  let bytes = 0
  for (let seq = afterSeq; seq < untilSeq; ) {
    const runs = await source.read(seq, pieceBytes)
    if (runs.length === 0) break
    for (const run of runs) {
      if (run.firstSeq <= seq) throw new Error('a run begins where the reader was already')
      messages.push(...[...messagesIn(run.frames)].map(parse))
      bytes += run.frames.length
      seq = run.lastSeq
    }
  }
  return { messages, bytes }
}

t.test(
  'deltas of a completed item are left out, and its completion says which; all else is kept exactly',
  async (t) => {
    const stream = [
      other(1),
      delta(2),
      approval(3),
      delta(4),
      delta(5, 2),
      other(6),
      delta(7),
      completed(8),
      delta(9, 2)
    ]
    const { messages } = await replay(
      journalOf(stream, () => 3),
      0,
      9
    )
    const completion = { ...completed(8), replaces: { from: 2, to: 7 } }
    t.strictSame(messages, [other(1), approval(3), delta(5, 2), other(6), completion, delta(9, 2)])
    t.strictSame(Object.keys(messages[4] ?? {}).sort(), ['payload', 'replaces', 'seq', 'type'])
  }
)

t.test(
  'what came before the client’s place is not its to replace, and what ends later is not completed yet',
  async (t) => {
    const stream = [delta(1), delta(2), delta(3), completed(4), delta(5, 2), completed(6, 2)]
    const { messages } = await replay(
      journalOf(stream, () => 10),
      1,
      5
    )
    t.strictSame(messages.slice(0, 2), [{ ...completed(4), replaces: { from: 2, to: 3 } }, delta(5, 2)])
  }
)

t.test('a completed item that does not hold the whole stands for nothing', async (t) => {
  const output = 'item/commandExecution/outputDelta'
  for (const fields of [{ aggregatedOutput: null }, { aggregatedOutput: '' }, {}]) {
    const stream = [delta(1, 1, output), delta(2, 1, output), completed(3, 1, fields)]
    t.strictSame(
      (
        await replay(
          journalOf(stream, () => 2),
          0,
          3
        )
      ).messages,
      stream,
      JSON.stringify(fields)
    )
  }
  const reasoning = [
    delta(1, 1, 'item/reasoning/textDelta'),
    delta(2, 1, 'item/reasoning/summaryTextDelta'),
    delta(3, 1, 'item/reasoning/textDelta'),
    completed(4, 1, { summary: ['so'], content: [] })
  ]
  const { messages } = await replay(
    journalOf(reasoning, () => 2),
    0,
    4
  )
  t.strictSame(messages, [reasoning[0], reasoning[2], { ...reasoning[3], replaces: { from: 2, to: 2 } }])
})

t.test('output that comes after an item’s end is kept, and an id that is used again is another item', async (t) => {
  const stream = [delta(1), completed(2), delta(3), completed(4), delta(5)]
  const { messages } = await replay(
    journalOf(stream, () => 10),
    0,
    5
  )
  const [first, second] = [completed(2), completed(4)]
  t.strictSame(messages, [
    { ...first, replaces: { from: 1, to: 1 } },
    { ...second, replaces: { from: 3, to: 3 } },
    delta(5)
  ])
})

t.test(
  'words that look like an item are only words; odd ids and another order of fields are read all the same',
  async (t) => {
    const odd = { threadId: 'thread', turnId: 'turn', itemId: 'a"b\\","itemId":"é\u2028' }
    const stream = [
      event(1, 'item/agentMessage/delta', { ...odd, delta: '","itemId":"x","method":"item/completed"' }),
      event(2, 'item/agentMessage/delta', {
        delta: '{"threadId":"thread"',
        itemId: odd.itemId,
        turnId: 'turn',
        threadId: 'thread'
      }),
      event(3, 'item/agentMessage/delta', { threadId: 'thread', itemId: odd.itemId, delta: 'of no turn' }),
      { type: 'approval/request', seq: 4, payload: { method: 'item/completed', params: { item: { id: odd.itemId } } } },
      event(5, 'item/completed', { item: { text: 'all', id: odd.itemId }, threadId: 'thread', turnId: 'turn' })
    ]
    const { messages } = await replay(
      journalOf(stream, () => 10),
      0,
      5
    )
    t.strictSame(messages, [stream[2], stream[3], { ...stream[4], replaces: { from: 1, to: 2 } }])
  }
)

t.test('every increment of the pinned codex is folded, or known to hold what the completed item does not', (t) => {
  const kept = [
    'item/commandExecution/terminalInteraction',
    // Deprecated, and no longer emitted.
    'item/fileChange/outputDelta',
    'item/mcpToolCall/progress',
    // Of a realtime conversation, which the gateway does not open.
    'thread/realtime/item/transcript/delta'
  ]
  const { oneOf = [], definitions = {} } = binaryNotifications(t)
  const ofItems = oneOf.filter(({ properties }) => {
    const name = properties?.params?.$ref?.split('/').at(-1) ?? ''
    return definitions[name]?.properties?.itemId !== undefined
  })
  const methods = ofItems.map(({ properties }) => properties?.method?.enum?.[0])
  t.strictSame(methods.sort(), [...kept, ...Object.keys(INCREMENTS)].sort())
  t.end()
})

t.test(
  'whatever the stream, numbers and replaced ranges are all numbers, and only what is replaced is missing',
  async (t) => {
    const methods = Object.keys(INCREMENTS)
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('delta' as const), item: fc.nat(5), method: fc.nat(6) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('completed' as const), item: fc.nat(5) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('other' as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('approval' as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('hole' as const) }) }
    )
    const whole = { text: 'all', summary: ['all'], content: ['all'], aggregatedOutput: 'all', changes: [{}] }
    let folded = 0
    const property = fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 100, size: 'max' }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
      fc.oneof(fc.constant(0), fc.nat(50)),
      fc.oneof(fc.constant(0), fc.nat(50)),
      async (steps, lengths, skip, cut) => {
        const stream = steps.flatMap((action, index): Message[] => {
          const seq = index + 1
          switch (action.do) {
            case 'delta':
              return [delta(seq, action.item, methods[action.method])]
            case 'completed':
              return [completed(seq, action.item, whole)]
            case 'approval':
              return [approval(seq)]
            case 'hole':
              return []
            default:
              return [other(seq)]
          }
        })
        const afterSeq = Math.min(skip, steps.length)
        const untilSeq = Math.max(afterSeq, steps.length - cut)
        const journal = journalOf(stream, (index) => lengths[index % lengths.length] ?? 1)
        const { messages } = await replay(journal, afterSeq, untilSeq, 1000)
        check(stream, messages, afterSeq, untilSeq)
        folded += messages.filter(({ replaces }) => replaces).length
      }
    )
    await t.resolves(fc.assert(property, { numRuns: 500 }))
    t.ok(folded > 1000, `${folded} items were folded`)
  }
)

/** Compares with the rule in its simplest form: a delta is left out when its item's completion lies behind it. */
function check(stream: readonly Message[], got: readonly Message[], afterSeq: number, untilSeq: number): void {
  const itemOf = ({ payload: { params } }: Message) => `${params.threadId}/${params.itemId ?? params.item.id}`
  const isCompletion = ({ payload }: Message) => payload.method === 'item/completed'
  const isLeftOut = (message: Message) =>
    message.payload.method in INCREMENTS &&
    stream.some(
      (later) =>
        isCompletion(later) && later.seq > message.seq && later.seq <= untilSeq && itemOf(later) === itemOf(message)
    )
  // The last run read may go on behind the end.
  const lastSeq = Math.max(untilSeq, got.at(-1)?.seq ?? 0)
  const expected = stream.filter(({ seq }) => seq > afterSeq && seq <= lastSeq).filter((one) => !isLeftOut(one))
  const bare = got.map(({ replaces: _replaces, ...message }) => message)
  if (JSON.stringify(bare) !== JSON.stringify(expected)) throw new Error('what is kept is not what was')

  const left = stream.filter((message) => message.seq > afterSeq && message.seq <= untilSeq && isLeftOut(message))
  const unaccounted = new Set(left.map(({ seq }) => seq))
  for (const { seq, replaces, ...completion } of got) {
    if (!replaces) continue
    if (replaces.from <= afterSeq || replaces.to >= seq) throw new Error('a range beyond what the client gets')
    const own = left.filter((message) => itemOf(message) === itemOf({ ...completion, seq }) && message.seq < seq)
    if (!own.some((message) => message.seq === replaces.from)) throw new Error('a range that begins with nothing')
    if (!own.some((message) => message.seq === replaces.to)) throw new Error('a range that ends with nothing')
    for (let inside = replaces.from; inside <= replaces.to; inside++) unaccounted.delete(inside)
  }
  if (unaccounted.size > 0) throw new Error(`nothing says where ${[...unaccounted]} are`)
}
