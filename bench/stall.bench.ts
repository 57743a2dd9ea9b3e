import { describeMachine, judge, spread } from './support/figures.ts'
import { startGateway } from './support/gateway.ts'
import { compileNative, Sink, type SinkReport } from './support/native.ts'
import { rssKib, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 7)
const DELTAS = Number(process.env.DELTAS ?? 10_000)
const DELTAS_PER_SECOND = Number(process.env.DELTAS_PER_SECOND ?? 2_000)
const CLIENTS = 4
const FLOOD_DELTAS = Number(process.env.FLOOD_DELTAS ?? 500_000)
const GOAL_P99 = 1.1
/** What a client that reads nothing may cost, however much is sent. */
const CAP_MIB = 64
const SAMPLE_MS = 100
const THREAD_ID = '01a20200-22ec-74b0-b8c1-16a53caecca5'

describeMachine()
const root = scratchDirectory()
const programs = compileNative(root)
const gateway = await startGateway(root, {
  CODEX_BIN: programs.codexStandIn,
  // The client that reads nothing must find all that it missed.
  JOURNAL_MAX_EVENTS: String(4 * FLOOD_DELTAS),
  JOURNAL_MAX_BYTES: String(512 * 4 * FLOOD_DELTAS)
})
const paced = `pace: ${DELTAS} ${Math.round(1e6 / DELTAS_PER_SECOND)}`

function connect(held: number): Promise<Sink> {
  const path = '/ws?userId=bench'
  return Sink.connect(programs, { port: gateway.port, path, clients: CLIENTS + held, held })
}

async function turn(sink: Sink, text: string): Promise<SinkReport> {
  const payload = { threadId: THREAD_ID, input: [{ type: 'text', text }] }
  return await sink.run({ type: 'turn/start', requestId: text, payload })
}

/** p99 of the clients that read, in µs, beside so many that do not, which must find everything afterwards. */
async function measureLatency(held: number): Promise<{ p50Us: number; p99Us: number }> {
  const sink = await connect(held)
  const live = await turn(sink, paced)
  requireAll(live, DELTAS * CLIENTS)
  if (held > 0) requireAll(await sink.release(), DELTAS * held)
  await sink.close()
  return live
}

function requireAll({ deltas, lost, doubled, gaps }: SinkReport, expected: number): void {
  if (deltas === expected && lost + doubled + gaps === 0) return
  throw new Error(`of ${expected} deltas ${deltas} came; ${lost} lost, ${doubled} doubled, ${gaps} gaps`)
}

/** By how much the gateway's memory grows during a flood, at its highest, in MiB. */
async function measureGrowth(held: number): Promise<number> {
  const sink = await connect(held)
  const beforeKib = rssKib(gateway.pid)
  let peakKib = beforeKib
  const sampler = setInterval(() => {
    peakKib = Math.max(peakKib, rssKib(gateway.pid))
  }, SAMPLE_MS)
  requireAll(await turn(sink, `flood: ${FLOOD_DELTAS}`), FLOOD_DELTAS * CLIENTS)
  if (held > 0) requireAll(await sink.release(), FLOOD_DELTAS * held)
  clearInterval(sampler)
  await sink.close()
  return (peakKib - beforeKib) / 1024
}

await measureGrowth(0)
await measureGrowth(1)
const growth = { without: await measureGrowth(0), stalled: await measureGrowth(1) }

const rounds: Record<'without' | 'stalled', { p50Us: number; p99Us: number }>[] = []
for (let n = 0; n <= ROUNDS; n++) {
  const early = n % 2 === 0 ? await measureLatency(0) : undefined
  const stalled = await measureLatency(1)
  const without = early ?? (await measureLatency(0))
  if (n > 0) rounds.push({ without, stalled })
}
for (const side of ['without', 'stalled'] as const) {
  const [p50, p99] = [rounds.map((round) => round[side].p50Us), rounds.map((round) => round[side].p99Us)]
  const name = side === 'without' ? 'all read           ' : 'one reads nothing  '
  console.log(
    `${name}: the others' latency p50 ${spread(p50)} µs, p99 ${spread(p99)} µs; flood: memory +${growth[side].toFixed(0)} MiB`
  )
}
judge(
  "one client reads nothing, the others' p99: with it / without",
  rounds.map(({ without, stalled }) => stalled.p99Us / without.p99Us),
  { atMost: GOAL_P99 }
)
judge(`one client reads nothing, ${FLOOD_DELTAS} deltas, growth of memory in MiB`, [growth.stalled], {
  atMost: CAP_MIB
})
await stop(gateway.child)
process.exit()
