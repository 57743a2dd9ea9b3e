import { setTimeout as delay } from 'node:timers/promises'
import { describeMachine, judge, spread } from './support/figures.ts'
import { startGateway } from './support/gateway.ts'
import type { PaceAnswer, PaceOrder } from './support/pace-client.ts'
import { codexChildrenOf, cpuMs, forkModule, nextMessage, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 5)
const USERS = Number(process.env.USERS ?? 20)
const DELTAS_PER_SECOND = Number(process.env.DELTAS_PER_SECOND ?? 100)
const WINDOW_MS = Number(process.env.WINDOW_MS ?? 10_000)
const GOAL = 0.08
const WARM_UP_S = 3

describeMachine()
const root = scratchDirectory()
const model = forkModule('./paced-model.ts', [String(DELTAS_PER_SECOND)])
const MODEL_BASE_URL = await nextMessage<string>(model)
const gateway = await startGateway(root, { MODEL_BASE_URL, MAX_PROCESSES: String(USERS) })
const client = forkModule('./pace-client.ts', [`ws://127.0.0.1:${gateway.port}/ws`, String(USERS)])
await heard('ready')

function heard(answer: PaceAnswer): Promise<void> {
  return nextMessage<PaceAnswer>(client).then((message) => {
    if (message !== answer) throw new Error(`the clients said ${message} instead of ${answer}`)
  })
}

function order<T>(message: PaceOrder): Promise<T> {
  const answer = nextMessage<T>(client)
  client.send(message)
  return answer
}

async function sample() {
  const deltas = await order<number>('count')
  const codexMs = codex.reduce((sum, pid) => sum + cpuMs(pid), 0)
  return { deltas, codexMs, gatewayMs: cpuMs(gateway.pid) }
}

const codex = codexChildrenOf(gateway.pid)
if (codex.length !== USERS) throw new Error(`${codex.length} codex processes for ${USERS} users`)
await order({ turn: DELTAS_PER_SECOND * WARM_UP_S })
await heard('done')

// One turn for everybody, looked at in windows: gateway and codex do the same work at the same time.
await order({ turn: Math.ceil((DELTAS_PER_SECOND * (WINDOW_MS * ROUNDS + 2_000)) / 1000) })
const windows: { ratio: number; codexMicros: number; gatewayMicros: number; perSecond: number }[] = []
let before = await sample()
for (let n = 0; n < ROUNDS; n++) {
  await delay(WINDOW_MS)
  const after = await sample()
  const deltas = after.deltas - before.deltas
  const [codexMs, gatewayMs] = [after.codexMs - before.codexMs, after.gatewayMs - before.gatewayMs]
  windows.push({
    ratio: gatewayMs / codexMs,
    codexMicros: (codexMs * 1000) / deltas,
    gatewayMicros: (gatewayMs * 1000) / deltas,
    perSecond: deltas / (WINDOW_MS / 1000)
  })
  before = after
}
await heard('done')

const column = (name: keyof (typeof windows)[number]) => windows.map((window) => window[name])
console.log(
  `${USERS} users: ${spread(column('perSecond'))} deltas/s together; CPU µs/delta: codex ${spread(column('codexMicros'))}, ` +
    `gateway ${spread(column('gatewayMicros'), 1)}`
)
judge(`pace, ${USERS} codex x ${DELTAS_PER_SECOND} deltas/s, CPU: gateway / codex`, column('ratio'), { atMost: GOAL })
await stop(gateway.child)
process.exit()
