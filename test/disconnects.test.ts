import { resolve } from 'node:path'
import t, { type Test } from 'tap'
import { redisMissing, startRedis } from './stores/redis-server.ts'
import { type CuttableProxy, startCuttableProxy } from './support/cuttable-proxy.ts'
import { startGateway } from './support/gateway.ts'
import { startGatewayProcess } from './support/gateway-process.ts'
import { eventually } from './support/processes.ts'
import { RandomNumbers } from './support/random-numbers.ts'
import { type Cut, ReconnectingClient } from './support/reconnecting-client.ts'

const isFull = process.env.FULL === '1'
const SEED = Number(process.env.SEED ?? 20_261_122)
const CLIENTS = 3
const CUTS: readonly Cut[] = ['clean', 'abrupt', 'half-open', 'overlap']
/** A healthy client must answer within it also on a machine that runs all tests at once. */
const HEARTBEAT_MS = 1_000

interface Plan {
  events: number
  cuts: number
  /** So many deltas a turn. */
  flood: number
}

const plan: Plan = isFull ? { events: 100_000, cuts: 300, flood: 10_000 } : { events: 4_000, cuts: 24, flood: 1_000 }
t.setTimeout(isFull ? 900_000 : 120_000)

interface Cuttable {
  client: ReconnectingClient
  proxy: CuttableProxy
}

/** Cuts and reconnects one client at random until `isOver`, and until it then has everything. Returns the cuts by kind. */
async function cutAtRandom(
  { client, proxy }: Cuttable,
  random: RandomNumbers,
  meanEvents: number,
  isOver: () => boolean
) {
  const cuts: string[] = []
  for (;;) {
    const stopAt = random.below(10) === 0 ? 0 : random.below(2 * meanEvents)
    await client.untilOrEnd(() => client.arrived >= stopAt || isOver(), `${stopAt} events or the end`)
    if (isOver()) return cuts
    const cut = random.pick(CUTS)
    const how = random.pick(['discard', 'hold'] as const)
    await client.cut(cut, proxy, how)
    cuts.push(cut === 'half-open' ? `${cut}/${how}` : cut)
    // Mostly it is back at once, while the gateway still sends to the old connection; sometimes the heartbeat ends that.
    if (cut === 'half-open' && how === 'discard' && random.below(8) === 0) await proxy.last().droppedByGateway
    await client.connect({ by: random.pick(['query', 'message'] as const), isCompact: random.below(5) === 0 })
    if (cut === 'overlap') client.letGo()
  }
}

async function disconnects(t: Test, variables: Record<string, string>) {
  t.comment(`SEED=${SEED}`)
  const start = isFull ? startGatewayProcess : startGateway
  const { address } = await start(t, {
    HEARTBEAT_MS: String(HEARTBEAT_MS),
    JOURNAL_MAX_EVENTS: '10000000',
    JOURNAL_MAX_BYTES: String(1024 ** 3),
    ...variables
  })
  const steady = new ReconnectingClient(t, () => address)
  await steady.start()
  const { ledger: truth } = steady
  const { threadId } = await steady.request('thread/start', {})

  const cuttable = await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const proxy = await startCuttableProxy(t, address)
      const client = new ReconnectingClient(t, () => proxy.address)
      await client.start(truth.first - 1)
      return { client, proxy }
    })
  )
  const clients = cuttable.map(({ client }) => client)

  let isOver = false
  const random = new RandomNumbers(SEED)
  const meanEvents = Math.floor((plan.events * CLIENTS) / plan.cuts)
  const cutting = Promise.all(
    cuttable.map((one) => cutAtRandom(one, new RandomNumbers(random.below(2 ** 31)), meanEvents, () => isOver))
  )
  const cutCount = () => clients.reduce((sum, { connections }) => sum + connections - 2, 0)
  // What goes wrong there is thrown where it is awaited; and when something else goes wrong, it ends as well.
  cutting.catch(() => {})
  t.teardown(() => {
    isOver = true
    for (const client of clients) client.wake()
  })
  let turns = 0
  while (truth.received < plan.events || cutCount() < plan.cuts) {
    await steady.playTurn(threadId, `flood: ${plan.flood}`)
    turns++
    // The next flood begins while they still catch up.
    const halfway = truth.position - plan.flood / 2
    await all(clients, halfway)
  }
  await all(clients, truth.position)
  isOver = true
  for (const client of clients) client.wake()
  const cuts = (await cutting).flat()
  await all(clients, truth.position)

  const late = new ReconnectingClient(t, () => address)
  await late.start(truth.first - 1)
  await late.until(() => late.ledger.position >= truth.position, 'everything')

  const words = Array.from({ length: plan.flood }, (_, index) => `tok${index} `).join('')
  for (const [name, { ledger }] of [
    ['the one that never left', steady],
    ['the one that came late', late],
    ...clients.map((client, index) => [`client ${index + 1}`, client] as const)
  ] as [string, ReconnectingClient][]) {
    const { position, received, replaced, faults, gaps, first } = ledger
    const differing = ledger.differencesTo(truth)
    t.strictSame(
      { position, covered: received + replaced, gaps, faults, differing },
      { position: truth.position, covered: truth.position - first + 1, gaps: [], faults: [], differing: [] },
      `${name}: none lost, doubled, out of order or changed; ${received} received, ${replaced} folded`
    )
    t.equal(ledger.said() === words.repeat(turns), true, `${name} has all that codex said`)
  }
  t.ok(cuts.length >= plan.cuts, `${cuts.length} cuts: ${countByKind(cuts)}`)
  t.ok(truth.received >= plan.events, `${truth.received} events in ${turns} turns`)
}

function all(clients: ReconnectingClient[], position: number): Promise<boolean> {
  return eventually(`all clients at ${position}`, 60_000, () => {
    const faults = clients.flatMap(({ ledger }) => ledger.faults)
    if (faults.length > 0) throw new Error(faults.join('\n'))
    return clients.every(({ ledger }) => ledger.position >= position)
  })
}

function countByKind(names: string[]): string {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].map(([name, count]) => `${count} ${name}`).join(', ')
}

const LINES = { CODEX_BIN: resolve('test/support/fake-codex-lines.sh') }

t.test('cuts during floods of the real codex, on the embedded store', (t) => disconnects(t, {}))

t.test('cuts during floods of lines at full speed, on the embedded store', (t) => disconnects(t, LINES))

t.test('cuts during floods of the real codex, on Redis', { skip: redisMissing }, async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  await disconnects(t, { REDIS_URL: redis.url })
})

t.test('cuts during floods of lines at full speed, on Redis', { skip: redisMissing }, async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  await disconnects(t, { REDIS_URL: redis.url, ...LINES })
})
