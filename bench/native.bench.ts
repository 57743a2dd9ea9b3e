import type { ChildProcess } from 'node:child_process'
import { describeMachine, judge, quantile, spread } from './support/figures.ts'
import { startGateway } from './support/gateway.ts'
import { startListener } from './support/listener.ts'
import type { NativeOrder, NativeResult } from './support/native-client.ts'
import { codexChildOf, cpuMs, forkModule, nextMessage, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 9)
const DELTAS = Number(process.env.DELTAS ?? 20_000)
const PACED_DELTAS = Number(process.env.PACED_DELTAS ?? 1_000)
const DELTAS_PER_SECOND = Number(process.env.DELTAS_PER_SECOND ?? 200)
const REQUESTS = Number(process.env.REQUESTS ?? 2_000)
const GOAL_P50 = 1.15
const GOAL_P99 = 1.3
const GOAL_FLOOD = 0.97
const GOAL_ROUND_TRIP = 1.3

describeMachine()
const root = scratchDirectory()

/** One way from codex to a client. `processes` are those whose CPU is told in the flood, by name. */
interface Side {
  client: ChildProcess
  processes: Record<string, number>
}

interface Pair {
  direct: NativeResult
  ours: NativeResult
}

async function connect(url: string, processes: Record<string, number>): Promise<Side> {
  const client = forkModule('./native-client.ts', [url])
  await nextMessage(client)
  const side = { client, processes }
  await order(side, { flood: 1 })
  return side
}

function order({ client }: Side, what: NativeOrder): Promise<NativeResult> {
  const result = nextMessage<NativeResult>(client)
  client.send(what)
  return result
}

/** Both sides in turn, in an order that changes: a machine that slows down must not favour one of them. */
async function compare(what: NativeOrder, deltas = 0): Promise<Pair[]> {
  const pairs: Pair[] = []
  for (let n = 0; n <= ROUNDS; n++) {
    const first = n % 2 === 0 ? await order(direct, what) : undefined
    const second = await order(ours, what)
    const pair = { direct: first ?? (await order(direct, what)), ours: second }
    for (const side of [pair.direct, pair.ours]) {
      if (side.deltas !== deltas) throw new Error(`${side.deltas} of ${deltas} deltas arrived`)
    }
    // The first pair warms up both sides.
    if (n > 0) pairs.push(pair)
  }
  return pairs
}

function reportTimes(what: string, pairs: readonly Pair[]): void {
  for (const side of ['direct', 'ours'] as const) {
    const [p50, p99] = [0.5, 0.99].map((part) => spread(pairs.map((pair) => quantile(pair[side].values, part))))
    console.log(
      `${what}, ${side === 'direct' ? "codex's own listener" : 'the gateway on /     '}: p50 ${p50} µs, p99 ${p99} µs`
    )
  }
}

const ratios = (pairs: readonly Pair[], part: number) =>
  pairs.map(({ direct, ours }) => quantile(ours.values, part) / quantile(direct.values, part))

const model = forkModule('./stamped-model.ts', [String(DELTAS_PER_SECOND)])
const MODEL_BASE_URL = await nextMessage<string>(model)
const listener = await startListener(root, MODEL_BASE_URL)
const gateway = await startGateway(root, { MODEL_BASE_URL })
const direct = await connect(listener.url, { codex: listener.pid })
const ours = await connect(`ws://127.0.0.1:${gateway.port}/?userId=bench`, { gateway: gateway.pid })
ours.processes.codex = codexChildOf(gateway.pid)

const paced = await compare({ pace: PACED_DELTAS }, PACED_DELTAS)
reportTimes(`${DELTAS_PER_SECOND} deltas/s, from the model to the client`, paced)

const roundTrips = await compare({ requests: REQUESTS })
reportTimes('thread/loaded/list, there and back', roundTrips)

const cpuBefore = [direct, ours].map(({ processes }) =>
  Object.entries(processes).map(([name, pid]) => [name, pid, cpuMs(pid)] as const)
)
const floods = await compare({ flood: DELTAS }, DELTAS)
const rate = ({ deltas, streamMs }: NativeResult) => deltas / (streamMs / 1000)
for (const [index, side] of (['direct', 'ours'] as const).entries()) {
  const perDelta = (ms: number) => ((ms * 1000) / (DELTAS * (ROUNDS + 1))).toFixed(1)
  const cpu = (cpuBefore[index] ?? []).map(([name, pid, before]) => `${name} ${perDelta(cpuMs(pid) - before)}`)
  const name = side === 'direct' ? "codex's own listener" : 'the gateway on /     '
  console.log(
    `flood, ${name}: ${spread(floods.map((pair) => rate(pair[side])))} deltas/s; CPU µs/delta: ${cpu.join(', ')}`
  )
}

judge('delta latency p50, ours / direct', ratios(paced, 0.5), { atMost: GOAL_P50 })
judge('delta latency p99, ours / direct', ratios(paced, 0.99), { atMost: GOAL_P99 })
judge(
  'flood, deltas/s, ours / direct',
  floods.map(({ direct, ours }) => rate(ours) / rate(direct)),
  {
    atLeast: GOAL_FLOOD
  }
)
judge('round trip of a request p50, ours / direct', ratios(roundTrips, 0.5), { atMost: GOAL_ROUND_TRIP })
await stop(gateway.child)
process.exit()
