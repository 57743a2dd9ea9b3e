import { describeMachine, judge, spread } from './support/figures.ts'
import { startGateway } from './support/gateway.ts'
import { compileNative, relayRound, Sink } from './support/native.ts'
import { cpuMs, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 7)
const EVENTS = Number(process.env.EVENTS ?? 1_000_000)
const FAN_OUT_EVENTS = Number(process.env.FAN_OUT_EVENTS ?? 100_000)
const FAN_OUT_CLIENTS = 100
const GOAL_CPU = 4
const GOAL_RATE = 0.35
const GOAL_FAN_OUT_CPU = 1.25
/** The one thread that the codex stand-in has. */
const THREAD_ID = '01a20200-22ec-74b0-b8c1-16a53caecca5'

interface Round {
  cpuMicrosPerEvent: number
  eventsPerSecond: number
}

describeMachine()
const root = scratchDirectory()
const programs = compileNative(root)
const gateway = await startGateway(root, { CODEX_BIN: programs.codexStandIn })

async function throughGateway(sink: Sink, events: number, clients: number): Promise<Round> {
  const text = `flood: ${events}`
  const payload = { threadId: THREAD_ID, input: [{ type: 'text', text }] }
  const beforeMs = cpuMs(gateway.pid)
  const { deltas, lost, doubled, gaps, streamMs } = await sink.run({ type: 'turn/start', requestId: text, payload })
  const usedMs = cpuMs(gateway.pid) - beforeMs
  if (deltas !== events * clients || lost + doubled + gaps > 0) {
    throw new Error(`of ${events * clients} deltas ${deltas} came; ${lost} lost, ${doubled} doubled, ${gaps} gaps`)
  }
  return { cpuMicrosPerEvent: (usedMs * 1000) / events, eventsPerSecond: events / (streamMs / 1000) }
}

async function throughRelay(events: number, clients: number): Promise<Round> {
  const { relayCpuMs, streamMs } = await relayRound(programs, events, clients)
  return { cpuMicrosPerEvent: (relayCpuMs * 1000) / events, eventsPerSecond: events / (streamMs / 1000) }
}

async function compare(events: number, clients: number): Promise<{ relay: Round; ours: Round }[]> {
  const path = `/ws?userId=bench-${clients}`
  const sink = await Sink.connect(programs, { port: gateway.port, path, clients })
  const rounds: { relay: Round; ours: Round }[] = []
  for (let n = 0; n <= ROUNDS; n++) {
    const early = n % 2 === 0 ? await throughRelay(events, clients) : undefined
    const ours = await throughGateway(sink, events, clients)
    const relay = early ?? (await throughRelay(events, clients))
    // The first round warms up.
    if (n > 0) rounds.push({ relay, ours })
  }
  await sink.close()
  for (const side of ['relay', 'ours'] as const) {
    const cpu = rounds.map((round) => round[side].cpuMicrosPerEvent)
    const rate = rounds.map((round) => round[side].eventsPerSecond / 1000)
    const name = side === 'relay' ? 'C relay    ' : 'the gateway'
    console.log(`${name}, ${clients} client(s): CPU ${spread(cpu, 3)} µs/event, ${spread(rate)} thousand events/s`)
  }
  return rounds
}

const single = await compare(EVENTS, 1)
const fanOut = await compare(FAN_OUT_EVENTS, FAN_OUT_CLIENTS)
const cpuRatios = (rounds: typeof single) => rounds.map((r) => r.ours.cpuMicrosPerEvent / r.relay.cpuMicrosPerEvent)
judge('relay, 1 client, CPU per event: ours / C relay', cpuRatios(single), { atMost: GOAL_CPU })
judge(
  'relay, 1 client, events/s: ours / C relay',
  single.map(({ relay, ours }) => ours.eventsPerSecond / relay.eventsPerSecond),
  { atLeast: GOAL_RATE }
)
judge(`relay, ${FAN_OUT_CLIENTS} clients, CPU per event: ours / C relay`, cpuRatios(fanOut), {
  atMost: GOAL_FAN_OUT_CPU
})
await stop(gateway.child)
process.exit()
