import { once } from 'node:events'
import { WebSocket } from 'ws'

/** What the benchmark asks of a client of the app-server protocol. */
export type NativeOrder = { flood: number } | { pace: number } | { requests: number }

/** `values` in microseconds: a delta's way from the model, or a request's round trip. Empty after a flood. */
export interface NativeResult {
  deltas: number
  /** From the first delta to the last. */
  streamMs: number
  values: number[]
}

const DELTA = '"method":"item/agentMessage/delta"'
const TURN_COMPLETED = '"method":"turn/completed"'
const STAMP = '"delta":"@'

const [url] = process.argv.slice(2) as [string]

const socket = new WebSocket(url, { maxPayload: 0, perMessageDeflate: false })
const answers = new Map<number, (result: Record<string, unknown>) => void>()
let lastId = 0
let deltas = 0
let firstMs = 0
let lastMs = 0
let latencies: number[] = []
let onCompleted = () => {}

// Deltas are looked at as bytes: a client that parsed them would be much of what is measured.
socket.on('message', (data: Buffer) => {
  if (data.includes(DELTA)) {
    lastMs = performance.now()
    if (deltas++ === 0) firstMs = lastMs
    const at = data.indexOf(STAMP)
    if (at === -1) return
    const sent = BigInt(data.toString('latin1', at + STAMP.length, data.indexOf(0x20, at)))
    latencies.push(Number(process.hrtime.bigint() - sent) / 1000)
  } else if (data.includes(TURN_COMPLETED)) onCompleted()
  else {
    const { id, method, result, error } = JSON.parse(data.toString('utf8'))
    if (method !== undefined) return
    if (error !== undefined) throw new Error(JSON.stringify(error))
    answers.get(id)?.(result)
    answers.delete(id)
  }
})

function request(method: string, params: object): Promise<Record<string, unknown>> {
  const id = ++lastId
  const answer = new Promise<Record<string, unknown>>((resolve) => answers.set(id, resolve))
  socket.send(JSON.stringify({ id, method, params }))
  return answer
}

async function runTurn(text: string): Promise<NativeResult> {
  const { thread } = await request('thread/start', {})
  deltas = 0
  latencies = []
  const completed = new Promise<void>((resolve) => {
    onCompleted = resolve
  })
  const input = [{ type: 'text', text, text_elements: [] }]
  await request('turn/start', { threadId: (thread as { id: string }).id, input })
  await completed
  return { deltas, streamMs: lastMs - firstMs, values: latencies }
}

/** One after the other: the next goes out when the answer to the one before is there. */
async function runRequests(count: number): Promise<NativeResult> {
  const values: number[] = []
  for (let n = 0; n < count; n++) {
    const startMs = performance.now()
    await request('thread/loaded/list', {})
    values.push((performance.now() - startMs) * 1000)
  }
  return { deltas: 0, streamMs: 0, values }
}

function run(order: NativeOrder): Promise<NativeResult> {
  if ('requests' in order) return runRequests(order.requests)
  return runTurn('flood' in order ? `flood: ${order.flood}` : `pace: ${order.pace}`)
}

await once(socket, 'open')
const clientInfo = { name: 'bench', title: null, version: '0' }
await request('initialize', { clientInfo, capabilities: { experimentalApi: true, requestAttestation: false } })
socket.send(JSON.stringify({ method: 'initialized' }))
process.on('message', (order: NativeOrder) => void run(order).then((result) => process.send?.(result)))
process.once('disconnect', () => process.exit())
process.send?.('ready')
