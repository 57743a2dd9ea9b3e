import type { ChildProcess } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { describeMachine, judge, spread } from './support/figures.ts'
import { startGateway } from './support/gateway.ts'
import { compileNative, Sink } from './support/native.ts'
import { forkModule, nextMessage, rssKib, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 3)
const CONNECTIONS = Number(process.env.CONNECTIONS ?? 4_000)
/** Fewer: each gets directories and a durable record first. */
const USERS = Number(process.env.USERS ?? 1_000)
/** A part of them comes first, so that what the first connections load and compile is not counted. */
const WARM_UP_SHARE = 0.2
const SETTLE_MS = 500
const COLLECTIONS = 3
const GOAL = 1.35
const COLLECT = ['--expose-gc', '--import', new URL('./support/collect.ts', import.meta.url).href]

describeMachine()
const root = scratchDirectory()
const programs = compileNative(root)

/** A server whose connections are counted; a %d in `path` makes each client a user of its own. */
interface Side {
  name: string
  path: string
  clients: number
  start(): Promise<{ child: ChildProcess; port: number }>
}

async function startBare(): Promise<{ child: ChildProcess; port: number }> {
  const child = forkModule('./bare-ws.ts', [], {}, COLLECT)
  return { child, port: await nextMessage<number>(child) }
}

// One process is enough: who gets none waits for nothing here.
const startOurs = () => startGateway(root, { CODEX_BIN: programs.codexStandIn, MAX_PROCESSES: '1' }, COLLECT)

const SIDES: Side[] = [
  { name: 'bare ws', path: '/', clients: CONNECTIONS, start: startBare },
  { name: 'one user', path: '/ws?userId=bench', clients: CONNECTIONS, start: startOurs },
  { name: 'many users', path: '/ws?userId=bench-%d', clients: USERS, start: startOurs }
]

async function settledRssKib(child: ChildProcess): Promise<number> {
  await delay(SETTLE_MS)
  for (let n = 0; n < COLLECTIONS; n++) {
    const collected = nextMessage(child)
    child.send('collect')
    await collected
  }
  return rssKib(child.pid as number)
}

/** KiB of resident memory for each connection. */
async function measure({ path, clients, start }: Side): Promise<number> {
  // A server of its own for each round: memory that was once in use is not given back.
  const { child, port } = await start()
  const earlyPath = path.replace('%d', 'early-%d')
  const early = await Sink.connect(programs, { port, path: earlyPath, clients: clients * WARM_UP_SHARE })
  const beforeKib = await settledRssKib(child)
  const sink = await Sink.connect(programs, { port, path, clients })
  const afterKib = await settledRssKib(child)
  await Promise.all([early.close(), sink.close()])
  await stop(child)
  return (afterKib - beforeKib) / clients
}

const rounds: Record<string, number>[] = []
for (let n = 0; n < ROUNDS; n++) {
  const round: Record<string, number> = {}
  for (const side of SIDES) round[side.name] = await measure(side)
  rounds.push(round)
}
for (const { name, clients } of SIDES) {
  const kib = rounds.map((round) => round[name] ?? Number.NaN)
  console.log(`${name}, ${clients} connections: ${spread(kib, 2)} KiB of resident memory each`)
}
for (const name of ['one user', 'many users']) {
  const ratios = rounds.map((round) => (round[name] ?? Number.NaN) / (round['bare ws'] ?? Number.NaN))
  judge(`RSS per idle connection, ${name}: ours / bare ws`, ratios, { atMost: GOAL })
}
process.exit()
