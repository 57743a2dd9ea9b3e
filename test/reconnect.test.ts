import t from 'tap'
import { startGateway } from './support/gateway.ts'
import { type Received, TestClient } from './support/ws-client.ts'

const FLOOD = 3_000
const CUTS = 12

t.test('a client that is cut again and again has every event once and in order', async (t) => {
  const { address } = await startGateway(t)
  const url = `ws://${address}/ws?userId=alice`
  const steady = await TestClient.connect(t, url)
  const { turnId } = await steady.startTurn(`flood: ${FLOOD}`)
  const { epoch } = steady.ready.payload

  const events: Received[] = []
  const isOver = () => events.some(({ payload }) => payload.method === 'turn/completed')
  for (let cut = 0; !isOver(); cut++) {
    const since = events.at(-1)?.seq ?? 0
    const client = await TestClient.connect(t, `${url}&epoch=${epoch}&since=${since}`)
    // The first dozen are cut in the middle of what they get, without a close frame; the last one may stay.
    const enough = cut < CUTS ? since + 1 + Math.floor(FLOOD / (2 * CUTS)) : Number.POSITIVE_INFINITY
    await client.waitForMessage(
      ({ seq = 0, payload }) => seq >= enough || payload?.method === 'turn/completed',
      'the next cut or the end'
    )
    client.socket.terminate()
    events.push(...client.received.filter(({ seq }) => seq !== undefined))
    t.notOk(client.received.some(({ type }) => type === 'session/gap'))
  }
  await steady.waitForTurnEnd(turnId)

  t.strictSame(
    events.map(({ seq }) => seq),
    events.map((_, index) => index + 1),
    `${events.length} events`
  )
  const shown = new Map(
    steady.received.flatMap((message) => (message.seq === undefined ? [] : [[message.seq, message]]))
  )
  for (const event of events) {
    const same = shown.get(event.seq as number)
    if (same !== undefined) t.strictSame(event, same)
  }
  const words = events.flatMap(({ payload }) =>
    payload.method === 'item/agentMessage/delta' ? payload.params.delta : []
  )
  t.equal(words.join(''), Array.from({ length: FLOOD }, (_, index) => `tok${index} `).join(''))
})

t.test('a client that was away too long is told which events are gone, and how things stand', async (t) => {
  const { address } = await startGateway(t, { JOURNAL_MAX_EVENTS: '20' })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn('flood: 100')
  await client.waitForTurnEnd(turnId)
  const last = client.seqs.at(-1) as number
  const { epoch } = client.ready.payload

  const late = await TestClient.connect(t, `ws://${address}/ws?userId=alice&epoch=${epoch}&since=2`)
  const gap = await late.waitFor('session/gap')
  const snapshot = await late.waitFor('session/snapshot')
  await late.waitForMessage(({ seq }) => seq === last, 'the newest event')

  t.match(gap.payload, { epoch, from: 3 })
  t.match(snapshot.payload, { epoch, seq: gap.payload.to, threads: [{ threadId }], pendingApprovals: [] })
  t.equal(late.seqs[0], gap.payload.to + 1, 'what is still there follows')
  t.equal(late.seqs.length, last - gap.payload.to)
})
