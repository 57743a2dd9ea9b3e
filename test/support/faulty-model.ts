import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type ModelRequest, scriptedAnswer } from '../../src/demo/scripted-model.ts'
import type { Teardown } from './gateway.ts'

export interface SeenRequest {
  method: string | undefined
  url: string | undefined
  headers: IncomingHttpHeaders
  /** When it came, and how it was answered: the name of a fault, or `answered`. */
  atMs: number
  answer: string
}

export interface FaultyModel {
  /** For MODEL_BASE_URL. */
  baseUrl: string
  requests: SeenRequest[]
}

/** What goes wrong when a prompt says `fault: <name>`; `once`: the next try is answered. */
const FAULTS: Record<string, (response: ServerResponse, apiKey: string) => void> = {
  busy: (response) =>
    response.writeHead(429, { 'content-type': 'application/json', 'retry-after': '2', 'set-cookie': 'a=b' }).end(),
  broken: (response) => response.writeHead(500).end('{"error":{"message":"no luck"}}'),
  refused: (response, apiKey) => response.writeHead(400).end(`This is not for you, ${apiKey}, nor for anybody`),
  badKey: (response, apiKey) => response.writeHead(401).end(`Incorrect API key provided: ${apiKey}`),
  silent: () => {},
  stalls: (response) => begin(response),
  cut: (response) => {
    begin(response)
    setTimeout(() => response.destroy(), 20)
  }
}

/** A Responses API that does what the last prompt says: `fault: busy once` and the like; else the scripted model. */
export async function startFaultyModel(t: Teardown): Promise<FaultyModel> {
  const requests: SeenRequest[] = []
  const done = new Set<string>()
  const server = createServer(async (request, response) => {
    const { method, url, headers } = request
    const body = await text(request).catch(() => '')
    const [fault = '', name = '', once = ''] = /fault: (\w+)( once)?(?![\s\S]*fault: )/.exec(body) ?? []
    const key = `${headers['thread-id']} ${fault}`
    const isFaulty = name !== '' && !(once !== '' && done.has(key))
    done.add(key)
    requests.push({ method, url, headers, atMs: Date.now(), answer: isFaulty ? name : 'answered' })
    if (isFaulty) FAULTS[name]?.(response, (headers.authorization ?? '').slice('Bearer '.length))
    else {
      response.setHeader('content-type', 'text/event-stream')
      for (const step of scriptedAnswer(JSON.parse(body) as ModelRequest)) {
        if (step !== 'pause') response.write(`event: ${step.type}\ndata: ${JSON.stringify(step)}\n\n`)
      }
      response.end()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, requests }
}

function begin(response: ServerResponse): void {
  response.setHeader('content-type', 'text/event-stream')
  response.write('event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n')
}
