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

/** In KiB. Resident memory is what counts, but free pages of a process that did much at its start hide a part of it. */
interface Memory {
  resident: number
  objects: number
}

async function settled(child: ChildProcess): Promise<Memory> {
  await delay(SETTLE_MS)
  let objectBytes = 0
  for (let n = 0; n < COLLECTIONS; n++) {
    const collected = nextMessage<number>(child)
    child.send('collect')
    objectBytes = await collected
  }
  return { resident: rssKib(child.pid as number), objects: objectBytes / 1024 }
}

/** For each connection. */
async function measure({ path, clients, start }: Side): Promise<Memory> {
  // A server of its own for each round: memory that was once in use is not given back.
  const { child, port } = await start()
  const earlyPath = path.replace('%d', 'early-%d')
  const early = await Sink.connect(programs, { port, path: earlyPath, clients: clients * WARM_UP_SHARE })
  const before = await settled(child)
  const sink = await Sink.connect(programs, { port, path, clients })
  const after = await settled(child)
  await Promise.all([early.close(), sink.close()])
  await stop(child)
  return {
    resident: (after.resident - before.resident) / clients,
    objects: (after.objects - before.objects) / clients
  }
}

const rounds: Map<string, Memory>[] = []
for (let n = 0; n < ROUNDS; n++) {
  const round = new Map<string, Memory>()
  for (const side of SIDES) round.set(side.name, await measure(side))
  rounds.push(round)
}
const column = (name: string, field: keyof Memory) => rounds.map((round) => round.get(name)?.[field] ?? Number.NaN)
for (const { name, clients } of SIDES) {
  const [resident, objects] = [spread(column(name, 'resident'), 2), spread(column(name, 'objects'), 2)]
  console.log(
    `${name}, ${clients} connections: ${resident} KiB of resident memory each, ${objects} KiB of live objects`
  )
}
for (const name of ['one user', 'many users']) {
  for (const [field, label] of [
    ['resident', 'RSS'],
    ['objects', 'live objects']
  ] as const) {
    const bare = column('bare ws', field)
    const ratios = column(name, field).map((kib, round) => kib / (bare[round] ?? Number.NaN))
    judge(`${label} per idle connection, ${name}: ours / bare ws`, ratios, { atMost: GOAL })
  }
}
process.exit()
