import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { type ModelRequest, scriptedAnswer } from '../../src/demo/scripted-model.ts'

// The scripted model in a process of its own, at a pace: `flood: N` streams N deltas, as many a second as the argument
// says. Its streams are not in step: each counts from its own start.
const intervalMs = 1000 / Number(process.argv[2])

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'POST') {
    response.end('{"object":"list","data":[],"models":[]}')
    return
  }
  const steps = scriptedAnswer(JSON.parse(await text(request)) as ModelRequest)
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  let dueMs = performance.now()
  for (const step of steps) {
    if (step === 'pause') continue
    if (step.type === 'response.output_text.delta') {
      dueMs += intervalMs
      await delay(Math.max(dueMs - performance.now(), 0))
    }
    response.write(`event: ${step.type}\ndata: ${JSON.stringify(step)}\n\n`)
  }
  response.end()
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: Error) => response.destroy(error))
}).listen(0, '127.0.0.1')
await once(server, 'listening')
process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`)
process.once('disconnect', () => process.exit())
