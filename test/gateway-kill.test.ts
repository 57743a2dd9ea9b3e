import t, { type Test } from 'tap'
import type { ThreadSummary } from '../schemas/server-messages.ts'
import { redisMissing, startRedis } from './stores/redis-server.ts'
import { cli } from './support/cli.ts'
import type { SeqRange } from './support/event-ledger.ts'
import { scratchDirectory } from './support/gateway.ts'
import { callApi, type GatewayProcess, startGatewayProcess } from './support/gateway-process.ts'
import { RandomNumbers } from './support/random-numbers.ts'
import { ReconnectingClient } from './support/reconnecting-client.ts'

const isFull = process.env.FULL === '1'
const SEED = Number(process.env.SEED ?? 20_261_122)
const ROUNDS = Number(process.env.ROUNDS ?? (isFull ? 20 : 3))
/** What is older than this when the gateway is killed must be there afterwards. */
const DURABLE_AFTER_MS = 1_000
/** The streams that a kill cuts: about ten thousand deltas a second, and fifty. */
const STREAMS = ['flood: 60000', 'word '.repeat(300)]
/** What is acknowledged in the moment before the kill. */
const LAST_WORDS = ['nothing', 'thread', 'rule', 'approval'] as const
type LastWord = (typeof LAST_WORDS)[number]

t.setTimeout(isFull ? 1_200_000 : 180_000)

interface Turn {
  threadId: string
  turnId: string
}

/** What clients have been told and may rely on. */
interface Acknowledged {
  /** Threads without a turn included. */
  threads: Set<string>
  /** Threads in which something was accepted for the session. */
  ruledThreads: Set<string>
  /** Approvals that were accepted. */
  accepted: Set<string>
}

interface House {
  /** Outlives the rounds. */
  t: Test
  variables: Record<string, string>
  gateway: GatewayProcess
  random: RandomNumbers
  acknowledged: Acknowledged
  ruleThreadId: string
}

async function kills(t: Test, variables: Record<string, string>) {
  t.comment(`SEED=${SEED}`)
  const dataDir = await scratchDirectory(t)
  const all = { DATA_DIR: dataDir, JOURNAL_MAX_EVENTS: '10000000', JOURNAL_MAX_BYTES: String(1024 ** 3), ...variables }
  const house: House = {
    t,
    variables: all,
    gateway: await startGatewayProcess(t, all),
    random: new RandomNumbers(SEED),
    acknowledged: { threads: new Set(), ruledThreads: new Set(), accepted: new Set() },
    ruleThreadId: ''
  }
  const sleeper = clientOf(t, house)
  await sleeper.start()
  await sleeper.cut('clean')
  await acceptForSession(t, house)

  for (let round = 0; round < ROUNDS; round++) {
    const lastWord = LAST_WORDS[round % LAST_WORDS.length] as LastWord
    const text = STREAMS[round % STREAMS.length] as string
    await t.test(`kill ${round + 1}, during ${text.slice(0, 12)}…, after ${lastWord}`, (t) =>
      killAndResume(t, house, text, lastWord)
    )
  }

  await sleeper.connect({ by: 'query', isCompact: false })
  const { ledger } = sleeper
  const fresh = clientOf(t, house)
  await fresh.start()
  await sleeper.until(() => ledger.position >= fresh.ledger.first - 1, 'everything since the first kill')
  t.strictSame(ledger.faults, [], 'a client that slept through all of it has everything in order')
  t.equal(
    ledger.received + numbersIn(ledger.gaps),
    ledger.position - ledger.first + 1,
    'with the gaps, each number once'
  )
  t.equal(numbersIn(ledger.gaps), ROUNDS, 'one number a kill')

  house.gateway.child.kill('SIGTERM')
  await house.gateway.exited
  const verified = await cli(['audit', 'verify'], { DATA_DIR: dataDir })
  t.equal(verified.code, 0, verified.output)
}

async function killAndResume(t: Test, house: House, text: string, lastWord: LastWord) {
  const { random } = house
  const live = clientOf(t, house)
  await live.start()
  const { epoch } = live
  const firstSeq = live.ledger.first

  const threadId = await startThread(live, house)
  await live.playTurn(threadId, 'flood: 20')
  await live.request('thread/name/set', { threadId, name: `Thread of ${threadId.slice(-4)}` })
  const open = await openApproval(live, await startThread(live, house), 'touch never.txt')
  const { turnId } = await live.request('turn/start', { threadId, input: [{ type: 'text', text }] })

  const killAfter = text.startsWith('flood') ? 500 + random.below(30_000) : 10 + random.below(150)
  const until = live.ledger.position + killAfter
  await live.until(() => live.ledger.position >= until, `${killAfter} events of the stream`)
  await sayLast(lastWord, live, house)
  const killedAtMs = performance.now()
  house.gateway.child.kill('SIGKILL')
  await house.gateway.exited
  await live.untilOrEnd(() => false, 'the end of the connection')
  const had = live.ledger.position
  const mustBeThere = live.ledger.newestBy(killedAtMs - DURABLE_AFTER_MS) ?? firstSeq - 1

  house.gateway = await startGatewayProcess(house.t, house.variables)
  // A client from before that stands far behind, one that is up to date, and one that stands at a random place.
  const behind = [firstSeq - 1, firstSeq - 1 + random.below(mustBeThere - firstSeq + 2)].map((position) => {
    const client = clientOf(t, house)
    client.standAt(epoch, position)
    return client
  })
  const returning = [live, ...behind]
  for (const client of returning) await client.connect({ by: 'query', isCompact: false })
  await Promise.all(returning.map((client) => client.until(() => snapshotOf(client).length > 0, 'a snapshot')))

  for (const client of behind) {
    const { ledger } = client
    const [gap] = ledger.gaps
    const durable = (gap?.from ?? 0) - 1
    t.ok(durable >= mustBeThere, `durable up to ${durable}, at least ${mustBeThere} of ${had}`)
    t.strictSame(ledger.faults, [])
    t.strictSame(ledger.takenBack, [])
    t.equal(ledger.received + numbersIn(ledger.gaps), ledger.position - ledger.first + 1, 'received and gap: each once')
    t.strictSame(ledger.differencesTo(live.ledger), [], 'the same under the same number as before the kill')
  }
  t.strictSame(live.ledger.faults, [])
  const lost = numbersIn(live.ledger.takenBack)
  t.ok(had - lost >= mustBeThere, `the one that was there lost ${lost} of ${had - firstSeq + 1} events`)
  await checkState(t, house, returning, [open, { threadId, turnId }], open.approvalId)
}

/** What the clients are told, and what REST says, against what codex's own history and the acknowledgements say. */
async function checkState(t: Test, house: House, clients: ReconnectingClient[], running: Turn[], orphanId: string) {
  const { acknowledged, gateway } = house
  const own = await ownHistory(clients[0] as ReconnectingClient)
  for (const client of clients) {
    const threads = snapshotOf(client)
    const told = new Map(threads.map((thread) => [thread.threadId, thread]))
    t.strictSame(without(acknowledged.threads, told), [], 'no acknowledged thread is missing in the snapshot')
    t.strictSame(without(own.keys(), told), [], 'nor one of codex’s history')
    const differing = [...own.values()].flatMap((thread) => difference(thread, told.get(thread.threadId)) ?? [])
    t.strictSame(differing, [], 'and it says of each what codex’s history says')
    for (const { threadId, turnId } of running) {
      const end = () => client.events.find(({ payload }) => isEndOf(turnId, payload))
      const lastTurns = threads.map(({ lastTurn }) => lastTurn)
      await client.until(() => end() !== undefined || lastTurns.some((last) => last?.turnId === turnId), 'a turn’s end')
      const status = end()?.payload.params.turn.status ?? lastTurns.find((last) => last?.turnId === turnId)?.status
      // codex may have come to the end of a turn that the gateway had not seen end.
      t.strictSame(
        { turnId, status },
        own.get(threadId)?.lastTurn,
        'a turn that ran has the end that codex says it has'
      )
      if (turnId === running[0]?.turnId)
        t.equal(status, 'interrupted', 'one that waited for an approval was interrupted')
    }
  }
  await checkApprovals(t, house, clients.at(-1) as ReconnectingClient, orphanId)
  const { rules } = (await callApi(gateway, '/api/session-rules')) as { rules: { threadId: string }[] }
  const kept = new Map(rules.map((rule) => [rule.threadId, rule]))
  t.strictSame(without(acknowledged.ruledThreads, kept), [], 'no rule is missing')
  await checkRule(t, clients[0] as ReconnectingClient, house)
  for (const threadId of [...acknowledged.threads].slice(-3)) {
    const answer = await clients[0]?.ask('turn/start', { threadId, input: [{ type: 'text', text: 'flood: 2' }] })
    t.equal(answer?.type, 'response', `${threadId} goes on: ${JSON.stringify(answer?.payload).slice(0, 200)}`)
    const { turnId } = answer?.payload ?? {}
    await clients[0]?.until(() => clients[0]?.ledger.hasTurnEnd(turnId) === true, 'the end of that turn')
  }
}

interface Outcome {
  approvalId?: string
  outcome?: string
}

async function checkApprovals(t: Test, { gateway, acknowledged }: House, client: ReconnectingClient, orphanId: string) {
  const { approvals } = await callApi(gateway, '/api/approvals')
  t.strictSame(approvals, [], 'no approval waits for an answer that codex cannot hear')
  const resolved = () =>
    client.events.find(({ type, payload }) => type === 'approval/resolved' && payload.approvalId === orphanId)
  await client.until(() => resolved() !== undefined, 'the end of the approval that waited')
  t.match(resolved()?.payload, { outcome: 'orphaned', decision: null })
  const { records } = (await callApi(gateway, '/api/audit?userId=alice&limit=200')) as { records: Outcome[] }
  const outcomes = (id: string) => records.flatMap((record) => (record.approvalId === id ? record.outcome : []))
  t.strictSame(outcomes(orphanId), ['orphaned'], 'it is on record, once')
  for (const approvalId of acknowledged.accepted) {
    t.strictSame(outcomes(approvalId), ['accepted'], 'a decision that was acknowledged is on record')
  }
}

/** A rule from before the kills still accepts what it was made for, and nobody is asked. */
async function checkRule(t: Test, client: ReconnectingClient, { ruleThreadId }: House) {
  const from = client.events.length
  await client.playTurn(ruleThreadId, 'escalate: touch kept.txt')
  const resolved = client.events.slice(from).filter(({ type }) => type === 'approval/resolved')
  t.match(
    resolved.map(({ payload }) => payload),
    [{ outcome: 'accepted', by: { kind: 'rule' } }]
  )
}

async function acceptForSession(t: Test, house: House) {
  const client = clientOf(t, house)
  await client.start()
  house.ruleThreadId = await startThread(client, house)
  const { approvalId, turnId } = await openApproval(client, house.ruleThreadId, 'touch kept.txt')
  await accept(client, house, approvalId, 'acceptForSession', house.ruleThreadId)
  await client.until(() => client.ledger.hasTurnEnd(turnId), 'the end of the turn')
  await client.cut('clean')
}

/** Has one more thing acknowledged, in the moment before the kill. */
async function sayLast(lastWord: LastWord, live: ReconnectingClient, house: House) {
  if (lastWord === 'nothing') return
  const threadId = await startThread(live, house)
  if (lastWord === 'thread') return
  const { approvalId } = await openApproval(live, threadId, 'touch last.txt')
  await accept(live, house, approvalId, lastWord === 'rule' ? 'acceptForSession' : 'accept', threadId)
}

async function startThread(client: ReconnectingClient, { acknowledged }: House): Promise<string> {
  const { threadId } = await client.request('thread/start', {})
  acknowledged.threads.add(threadId)
  return threadId
}

/** A turn that waits for an approval. */
async function openApproval(
  client: ReconnectingClient,
  threadId: string,
  command: string
): Promise<Turn & { approvalId: string }> {
  const input = [{ type: 'text', text: `escalate: ${command}` }]
  const { turnId } = await client.request('turn/start', { threadId, input })
  const request = () =>
    client.events.find(({ type, payload }) => type === 'approval/request' && payload.turnId === turnId)
  await client.until(() => request() !== undefined, 'the approval request')
  return { threadId, turnId, approvalId: request()?.payload.approvalId }
}

async function accept(
  client: ReconnectingClient,
  { acknowledged }: House,
  approvalId: string,
  decision: 'accept' | 'acceptForSession',
  threadId: string
) {
  await client.request('approval/respond', { approvalId, decision })
  acknowledged.accepted.add(approvalId)
  if (decision === 'acceptForSession') acknowledged.ruledThreads.add(threadId)
}

interface OwnThread {
  threadId: string
  title: string | null
  /** Of the newest threads only: reading is slow. */
  lastTurn?: { turnId: string; status: string } | undefined
}

const THREADS_READ = 6

/** What codex itself says of the user's threads. */
async function ownHistory(client: ReconnectingClient): Promise<Map<string, OwnThread>> {
  const threads = new Map<string, OwnThread>()
  const { data } = await client.request('thread/list', { limit: 100 })
  for (const { id, name, preview } of data as { id: string; name: string | null; preview: string }[]) {
    threads.set(id, { threadId: id, title: name ?? (preview || null) })
  }
  for (const own of [...threads.values()].slice(0, THREADS_READ)) {
    const { thread } = await client.request('thread/read', { threadId: own.threadId, includeTurns: true })
    const last = thread.turns.at(-1)
    own.lastTurn = last && { turnId: last.id, status: last.status }
  }
  return threads
}

/** A title that was cut is the same title. */
const TITLE_CHARS = 150

function difference(own: OwnThread, told: ThreadSummary | undefined): string | undefined {
  const [title, toldTitle] = [own.title, told?.title ?? null].map((text) => text?.slice(0, TITLE_CHARS))
  const [last, toldLast] = [own.lastTurn ?? told?.lastTurn, told?.lastTurn].map((turn) => JSON.stringify(turn))
  if (title === toldTitle && last === toldLast) return undefined
  return `${own.threadId}: "${title}", ${last}; told: "${toldTitle}", ${toldLast}`
}

function snapshotOf(client: ReconnectingClient): ThreadSummary[] {
  return client.others.findLast(({ type }) => type === 'session/snapshot')?.payload.threads ?? []
}

function isEndOf(turnId: string, payload: { method?: string; params?: { turn: { id: string } } }): boolean {
  return payload.method === 'turn/completed' && payload.params?.turn.id === turnId
}

function without(ids: Iterable<string>, known: Map<string, unknown>): string[] {
  return [...ids].filter((id) => !known.has(id))
}

function numbersIn(ranges: readonly SeqRange[]): number {
  return ranges.reduce((sum, { from, to }) => sum + to - from + 1, 0)
}

function clientOf(t: Test, house: House): ReconnectingClient {
  return new ReconnectingClient(t, () => house.gateway.address)
}

t.test('the gateway is killed during turns, on the embedded store', (t) => kills(t, {}))

t.test('the gateway is killed during turns, on Redis', { skip: redisMissing }, async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  await kills(t, { REDIS_URL: redis.url })
})
