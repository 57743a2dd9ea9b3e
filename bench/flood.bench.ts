import type { ChildProcess } from 'node:child_process'
import { describeMachine, judge, spread } from './support/figures.ts'
import type { FloodOrder, FloodResult } from './support/flood-client.ts'
import { startGateway } from './support/gateway.ts'
import { startListener } from './support/listener.ts'
import { codexChildOf, cpuMs, forkModule, nextMessage, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 9)
const DELTAS = Number(process.env.DELTAS ?? 20_000)
const GOAL = 0.97

describeMachine()
const root = scratchDirectory()

/** One way from codex to a client. `processes` are those whose CPU is told, by name. */
interface Side {
  client: ChildProcess
  processes: Record<string, number>
}

interface Round extends FloodResult {
  cpuMicrosPerDelta: Record<string, number>
}

async function startOurs(baseUrl: string): Promise<Side & { gateway: ChildProcess }> {
  const { child: gateway, pid, port } = await startGateway(root, { MODEL_BASE_URL: baseUrl })
  const client = forkModule('./flood-client.ts', ['gateway', `ws://127.0.0.1:${port}/ws?userId=bench`, ''])
  await nextMessage(client)
  await order(client, 1)
  return { gateway, client, processes: { codex: codexChildOf(pid), gateway: pid } }
}

async function startDirect(baseUrl: string): Promise<Side> {
  const { pid, url, workspace } = await startListener(root, baseUrl)
  const client = forkModule('./flood-client.ts', ['codex', url, workspace])
  await nextMessage(client)
  await order(client, 1)
  return { client, processes: { codex: pid } }
}

function order(client: ChildProcess, deltas: number): Promise<FloodResult> {
  const result = nextMessage<FloodResult>(client)
  client.send({ deltas } satisfies FloodOrder)
  return result
}

async function measure({ client, processes }: Side): Promise<Round> {
  const before = Object.entries(processes).map(([name, pid]) => [name, pid, cpuMs(pid)] as const)
  const result = await order(client, DELTAS)
  if (result.deltas !== DELTAS) throw new Error(`${result.deltas} of ${DELTAS} deltas arrived`)
  const perDelta = (ms: number) => (ms * 1000) / DELTAS
  const cpu = before.map(([name, pid, beforeMs]) => [name, perDelta(cpuMs(pid) - beforeMs)] as const)
  return { ...result, cpuMicrosPerDelta: { ...Object.fromEntries(cpu), client: perDelta(result.cpuMs) } }
}

const rate = ({ deltas, streamMs }: FloodResult) => deltas / (streamMs / 1000)

function report(name: string, rounds: readonly Round[]): void {
  const cpu = Object.keys(rounds[0]?.cpuMicrosPerDelta ?? {}).map((process) => {
    return `${process} ${spread(rounds.map(({ cpuMicrosPerDelta }) => cpuMicrosPerDelta[process] ?? Number.NaN))}`
  })
  console.log(`${name}: ${spread(rounds.map(rate))} deltas/s; CPU µs/delta: ${cpu.join(', ')}`)
}

const model = forkModule('./model.ts', [])
const baseUrl = await nextMessage<string>(model)
const { gateway, ...ours } = await startOurs(baseUrl)
const direct = await startDirect(baseUrl)

const rounds: { direct: Round; ours: Round }[] = []
for (let n = 0; n <= ROUNDS; n++) {
  // The order changes from pair to pair: a machine that slows down or speeds up must not favour one side.
  const first = n % 2 === 0 ? await measure(direct) : undefined
  const second = await measure(ours)
  const pair = { direct: first ?? (await measure(direct)), ours: second }
  // The first pair warms up both sides.
  if (n > 0) rounds.push(pair)
}

report(
  "codex's own ws listener",
  rounds.map(({ direct }) => direct)
)
report(
  'through the gateway    ',
  rounds.map(({ ours }) => ours)
)
judge(
  'whole turn, time of direct / ours',
  rounds.map(({ direct, ours }) => direct.turnMs / ours.turnMs),
  { atLeast: GOAL }
)
judge(
  'deltas/s, ours / direct',
  rounds.map(({ direct, ours }) => rate(ours) / rate(direct)),
  { atLeast: GOAL }
)
await stop(gateway)
process.exit()
