import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { type ModelRequest, scriptedAnswer } from '../../src/demo/scripted-model.ts'

// The scripted model in a process of its own, with stamps: `flood: N` streams N deltas as fast as they are taken,
// `pace: N` N deltas, as many a second as the argument says, each with the moment at which it was sent: nanoseconds of
// the machine's monotonic clock, which is the same in all processes.
const intervalMs = 1000 / Number(process.argv[2])
const BLOCK_CHARS = 16 * 1024
const PACE = /pace: (\d+)/

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'POST') {
    response.end('{"object":"list","data":[],"models":[]}')
    return
  }
  const asked = JSON.parse(await text(request)) as ModelRequest
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.socket?.setNoDelay(true)
  const prompt = asked.input?.findLast(({ role }) => role === 'user')?.content?.at(-1)?.text ?? ''
  const paced = Number(PACE.exec(prompt)?.[1] ?? 0)
  if (paced > 0) await pace(response, paced)
  else await flood(response, asked)
  response.end()
}

const line = (event: { type: string }) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`

async function flood(response: ServerResponse, asked: ModelRequest): Promise<void> {
  let block = ''
  for (const step of scriptedAnswer(asked)) {
    if (step === 'pause') continue
    block += line(step)
    if (block.length < BLOCK_CHARS) continue
    if (!response.write(block)) await once(response, 'drain')
    block = ''
  }
  response.write(block)
}

async function pace(response: ServerResponse, deltas: number): Promise<void> {
  const id = 'msg_paced'
  const send = (event: { type: string; [field: string]: unknown }) => response.write(line(event))
  send({ type: 'response.created', response: { id: 'resp_paced' } })
  send({ type: 'response.output_item.added', item: { type: 'message', role: 'assistant', id, content: [] } })
  let dueMs = performance.now()
  for (let n = 0; n < deltas; n++) {
    dueMs += intervalMs
    await delay(Math.max(dueMs - performance.now(), 0))
    send({ type: 'response.output_text.delta', delta: `@${process.hrtime.bigint()} `, item_id: id })
  }
  const content = [{ type: 'output_text', text: 'paced' }]
  send({ type: 'response.output_item.done', item: { type: 'message', role: 'assistant', id, content } })
  const usage = {
    input_tokens: 1,
    input_tokens_details: null,
    output_tokens: 1,
    output_tokens_details: null,
    total_tokens: 2
  }
  send({ type: 'response.completed', response: { id: 'resp_paced', usage } })
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: Error) => response.destroy(error))
}).listen(0, '127.0.0.1')
await once(server, 'listening')
process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`)
process.once('disconnect', () => process.exit())
