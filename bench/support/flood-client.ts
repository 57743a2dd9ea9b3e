import { once } from 'node:events'
import { WebSocket } from 'ws'

/** What the benchmark asks of a client: one turn that streams so many deltas, in a new thread. */
export interface FloodOrder {
  deltas: number
}

export interface FloodResult {
  deltas: number
  /** From the first delta to the last. */
  streamMs: number
  /** From turn/start to turn/completed. */
  turnMs: number
  /** CPU of this client during the turn. */
  cpuMs: number
}

const DELTA = '"method":"item/agentMessage/delta"'
const TURN_COMPLETED = '"method":"turn/completed"'

const [dialect, url, cwd] = process.argv.slice(2) as ['gateway' | 'codex', string, string]

const socket = new WebSocket(url, { maxPayload: 0, perMessageDeflate: false })
const answers = new Map<string, (result: Record<string, unknown>) => void>()
let lastId = 0
let deltas = 0
let firstMs = 0
let lastMs = 0
let onCompleted = () => {}

// Deltas are counted as bytes: a client that parsed them would be most of what is measured.
socket.on('message', (data: Buffer) => {
  if (data.includes(DELTA)) {
    lastMs = performance.now()
    if (deltas++ === 0) firstMs = lastMs
  } else if (data.includes(TURN_COMPLETED)) onCompleted()
  else onOther(JSON.parse(data.toString('utf8')) as Record<string, unknown>)
})

function onOther(message: Record<string, unknown>): void {
  const answer = answers.get(String(message.requestId ?? message.id))
  const failure = message.type === 'error' ? message.payload : message.error
  if (failure !== undefined && message.method === undefined) throw new Error(JSON.stringify(failure))
  answer?.((message.payload ?? message.result) as Record<string, unknown>)
}

function request(method: string, params: object): Promise<Record<string, unknown>> {
  const id = String(++lastId)
  const answer = new Promise<Record<string, unknown>>((resolve) => answers.set(id, resolve))
  const message = dialect === 'gateway' ? { type: method, requestId: id, payload: params } : { id, method, params }
  socket.send(JSON.stringify(message))
  return answer
}

async function flood({ deltas: wanted }: FloodOrder): Promise<FloodResult> {
  const started = await request('thread/start', dialect === 'gateway' ? {} : { cwd })
  const threadId = (started.thread as { id: string }).id
  deltas = 0
  const completed = new Promise<void>((resolve) => {
    onCompleted = resolve
  })
  const cpu = process.cpuUsage()
  const startMs = performance.now()
  await request('turn/start', { threadId, input: [{ type: 'text', text: `flood: ${wanted}` }] })
  await completed
  const { user, system } = process.cpuUsage(cpu)
  return { deltas, streamMs: lastMs - firstMs, turnMs: performance.now() - startMs, cpuMs: (user + system) / 1000 }
}

await once(socket, 'open')
if (dialect === 'codex') {
  const clientInfo = { name: 'bench', title: null, version: '0' }
  await request('initialize', { clientInfo, capabilities: { experimentalApi: true, requestAttestation: false } })
  socket.send(JSON.stringify({ method: 'initialized' }))
}
process.on('message', (order: FloodOrder) => void flood(order).then((result) => process.send?.(result)))
process.once('disconnect', () => process.exit())
process.send?.('ready')
