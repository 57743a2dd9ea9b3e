import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type ModelRequest, type ModelStep, scriptedAnswer } from '../../src/demo/scripted-model.ts'
import type { Teardown } from './gateway.ts'

/** A word of the prompt; the model repeats the prompt, and stops behind it. */
export const HOLD = 'hold-here'

export interface HeldModel {
  /** For MODEL_BASE_URL. */
  readonly baseUrl: string
  /** Lets all answers go on that stopped, now and later. */
  release(): void
}

/** The demo's model, which stops in the middle of an answer until a test lets it go on. It pauses nowhere else. */
export async function startHeldModel(t: Teardown): Promise<HeldModel> {
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const server = createServer((request, response) => {
    answer(request, response, released).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    release()
    server.closeAllConnections()
    server.close()
  })
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, release }
}

async function answer(request: IncomingMessage, response: ServerResponse, released: Promise<void>): Promise<void> {
  const body = await text(request)
  if (request.url !== '/v1/responses') {
    response.end('{"object":"list","data":[],"models":[]}')
    return
  }
  response.setHeader('content-type', 'text/event-stream')
  for (const step of scriptedAnswer(JSON.parse(body) as ModelRequest)) {
    if (step === 'pause') continue
    response.write(`event: ${step.type}\ndata: ${JSON.stringify(step)}\n\n`)
    if (holds(step)) await released
  }
  response.end()
}

function holds(step: ModelStep): boolean {
  return step !== 'pause' && typeof step.delta === 'string' && step.delta.includes(HOLD)
}
