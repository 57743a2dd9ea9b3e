import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { redisMissing } from './stores/redis-server.ts'
import { type DurableRedis, startDurableRedis } from './support/durable-redis.ts'
import { type Gateway, scratchDirectory, startGateway } from './support/gateway.ts'
import { eventually } from './support/processes.ts'
import { ReconnectingClient } from './support/reconnecting-client.ts'

const isFull = process.env.FULL === '1'
const OUTAGE_MS = isFull ? 10_000 : 3_000
/** The demo model says it all again, fifty words a second: the turn outlasts the outage. */
const LONG_TEXT = 'word '.repeat(isFull ? 900 : 400)
const READY_TIMEOUT_MS = 15_000

t.setTimeout(isFull ? 240_000 : 120_000)

interface House {
  redis: DurableRedis
  variables: Record<string, string>
  gateway: Gateway
}

async function build(t: Test): Promise<House> {
  const redis = await startDurableRedis(t)
  const variables = { DATA_DIR: await scratchDirectory(t), REDIS_URL: redis.url }
  return { redis, variables, gateway: await startGateway(t, variables) }
}

t.test('Redis is killed during a turn and comes back', { skip: redisMissing }, async (t) => {
  const house = await build(t)
  const { redis, gateway } = house
  const clients = await connectClients(t, house)
  const [steady] = clients as [ReconnectingClient]
  const { threadId } = await steady.request('thread/start', {})
  await acceptForSession(steady, threadId)
  const waiting = await openApproval(steady, 'touch waiting.txt')
  const { turnId } = await steady.request('turn/start', { threadId, input: [{ type: 'text', text: LONG_TEXT }] })
  const from = steady.ledger.position
  await steady.until(() => steady.ledger.position >= from + 20, 'the stream')

  await redis.kill()
  const killedAtMs = performance.now()
  await eventually('/ready says 503', READY_TIMEOUT_MS, async () => (await ready(gateway)) === 503)
  const { position } = steady.ledger
  const started: string[] = []
  const { approvalId } = waiting
  const [overSocket, overRest, stranger, answer] = await Promise.all([
    timed(t, 'thread/start', steady.ask('thread/start', {})),
    timed(t, 'POST /api/threads', rest(gateway, 'POST', '/api/threads', 'alice')),
    timed(t, 'a session for somebody new', rest(gateway, 'GET', '/api/threads', 'bob')),
    timed(t, 'an answer to an approval', steady.ask('approval/respond', { approvalId, decision: 'accept' }))
  ])
  if (overSocket?.type === 'response') started.push(overSocket.payload.threadId)
  else t.match(overSocket, { type: 'error', payload: { code: 'CC_STORE_UNAVAILABLE' } }, 'refused with a code')
  if (overRest.status < 300) started.push(overRest.body.threadId)
  else t.match(overRest, { status: 503, body: { error: { code: 'CC_STORE_UNAVAILABLE' } } })
  t.match(stranger, { status: 503, body: { error: { code: 'CC_STORE_UNAVAILABLE' } } }, 'refused, not kept waiting')
  t.comment(`the answer to an approval: ${answer?.type} ${answer?.payload.code ?? answer?.payload.outcome}`)
  await steady.until(() => steady.ledger.position >= position + 20, 'live events during the outage')
  await delay(Math.max(0, OUTAGE_MS - (performance.now() - killedAtMs)))
  t.equal(await ready(gateway), 503)
  t.notOk(steady.ledger.hasTurnEnd(turnId), 'the turn outlasts the outage')

  await redis.restart()
  await eventually('/ready says 200', READY_TIMEOUT_MS, async () => (await ready(gateway)) === 200)
  for (const client of clients) {
    await client.until(() => client.ledger.hasTurnEnd(turnId), 'the end of the turn')
    t.equal(client.connections, 1, 'no client was disconnected')
    t.ok(client.isOpen)
    t.strictSame([client.ledger.faults, client.ledger.gaps], [[], []])
  }
  if (answer?.type === 'error') {
    await steady.request('approval/respond', { approvalId, decision: 'accept' })
  }
  await steady.until(() => steady.ledger.hasTurnEnd(waiting.turnId), 'the end of the approved turn')

  await t.test('everything is replayed exactly, by this gateway and by the next', async (t) => {
    await checkReplay(t, house, steady)
    const { epoch } = steady
    await gateway.close()
    house.gateway = await startGateway(t, house.variables)
    const late = await checkReplay(t, house, steady)
    t.equal(late.epoch, epoch, 'it is the same epoch: nothing is missing')
    await checkState(t, house, late, [threadId, ...started], approvalId)
  })
})

t.test('Redis is killed during a turn and comes back empty', { skip: redisMissing }, async (t) => {
  const house = await build(t)
  const { redis, gateway } = house
  const clients = await connectClients(t, house)
  const [steady] = clients as [ReconnectingClient]
  const { threadId } = await steady.request('thread/start', {})
  await steady.playTurn(threadId, 'flood: 20000')
  const { turnId } = await steady.request('turn/start', { threadId, input: [{ type: 'text', text: LONG_TEXT }] })
  const from = steady.ledger.position
  await steady.until(() => steady.ledger.position >= from + 20, 'the stream')
  await redis.kill()
  await eventually('/ready says 503', READY_TIMEOUT_MS, async () => (await ready(gateway)) === 503)
  await redis.restart({ isEmpty: true })
  await eventually('/ready says 200', READY_TIMEOUT_MS, async () => (await ready(gateway)) === 200)
  for (const client of clients) {
    await client.until(() => client.ledger.hasTurnEnd(turnId), 'the end of the turn')
    t.equal(client.connections, 1, 'no client was disconnected')
    t.strictSame([client.ledger.faults, client.ledger.gaps], [[], []])
  }

  await t.test('received and gaps are all numbers, each once, from this gateway and from the next', async (t) => {
    await checkCover(t, house, steady)
    await gateway.close()
    house.gateway = await startGateway(t, house.variables)
    const late = await checkCover(t, house, steady)
    const { data } = await late.request('thread/list', {})
    t.match(data, [{ id: threadId }], 'the thread is there')
    const next = await late.playTurn(threadId, 'flood: 5')
    t.ok(late.ledger.hasTurnEnd(next), 'and goes on')
  })
})

async function connectClients(t: Test, house: House): Promise<ReconnectingClient[]> {
  const clients = [1, 2].map(() => new ReconnectingClient(t, () => house.gateway.address))
  for (const client of clients) await client.start()
  return clients
}

/** A client that was there at the start comes back now, and gets all of what the steady one got. */
async function checkReplay(t: Test, house: House, steady: ReconnectingClient): Promise<ReconnectingClient> {
  const late = await comeBack(t, house, steady)
  t.strictSame(late.ledger.gaps, [])
  t.equal(late.ledger.said() === steady.ledger.said(), true, 'word for word')
  return late
}

async function checkCover(t: Test, house: House, steady: ReconnectingClient): Promise<ReconnectingClient> {
  const late = await comeBack(t, house, steady)
  const { ledger } = late
  const missing = ledger.gaps.reduce((sum, { from, to }) => sum + to - from + 1, 0)
  t.comment(`${ledger.received} received, ${missing} in ${ledger.gaps.length} gaps`)
  t.equal(ledger.received + missing, ledger.position - ledger.first + 1)
  return late
}

async function comeBack(t: Test, house: House, steady: ReconnectingClient): Promise<ReconnectingClient> {
  const late = new ReconnectingClient(t, () => house.gateway.address)
  late.standAt(steady.epoch, steady.ledger.first - 1)
  await late.connect({ by: 'query', isCompact: false })
  await late.until(() => late.ledger.position >= steady.ledger.position, 'everything')
  t.strictSame(late.ledger.faults, [])
  t.strictSame(late.ledger.differencesTo(steady.ledger), [], 'the same under the same number')
  return late
}

async function checkState(
  t: Test,
  { gateway }: House,
  client: ReconnectingClient,
  threadIds: string[],
  approvalId: string
) {
  for (const threadId of threadIds) {
    const turnId = await client.playTurn(threadId, 'flood: 3')
    t.ok(client.ledger.hasTurnEnd(turnId), 'a thread that was acknowledged is there and goes on')
  }
  const headers = { 'x-user-id': 'alice' }
  const { rules } = (await gateway.app.inject({ url: '/api/session-rules', headers })).json()
  t.match(rules, [{ threadId: threadIds[0] }], 'what was accepted for the session is')
  const { records } = (await gateway.app.inject({ url: '/api/audit?userId=alice', headers })).json()
  const outcomes = records.flatMap((record: Record<string, string>) =>
    record.approvalId === approvalId ? record.outcome : []
  )
  t.strictSame(outcomes, ['accepted'], 'the approval is on record, once')
}

async function acceptForSession(client: ReconnectingClient, threadId: string): Promise<void> {
  const { approvalId, turnId } = await openApproval(client, 'touch kept.txt', threadId)
  await client.request('approval/respond', { approvalId, decision: 'acceptForSession' })
  await client.until(() => client.ledger.hasTurnEnd(turnId), 'the end of the turn')
}

async function openApproval(client: ReconnectingClient, command: string, inThread?: string) {
  const threadId = inThread ?? (await client.request('thread/start', {})).threadId
  const input = [{ type: 'text', text: `escalate: ${command}` }]
  const { turnId } = await client.request('turn/start', { threadId, input })
  const request = () =>
    client.events.find(({ type, payload }) => type === 'approval/request' && payload.turnId === turnId)
  await client.until(() => request() !== undefined, 'the approval request')
  return { turnId: turnId as string, approvalId: request()?.payload.approvalId as string }
}

/** Reports how long it took. */
async function timed<T>(t: Test, what: string, doing: Promise<T>): Promise<T> {
  const startMs = performance.now()
  const done = await doing
  t.comment(`${what}: ${Math.round(performance.now() - startMs)} ms during the outage`)
  return done
}

async function rest({ app }: Gateway, method: 'GET' | 'POST', url: string, userId: string) {
  const headers = { 'x-user-id': userId }
  const response = await app.inject({ method, url, headers, ...(method === 'POST' ? { payload: {} } : {}) })
  return { status: response.statusCode, body: response.json() }
}

async function ready({ app }: Gateway): Promise<number> {
  return (await app.inject('/ready')).statusCode
}
