import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type ModelRequest, scriptedAnswer } from '../../src/demo/scripted-model.ts'
import type { Teardown } from './gateway.ts'

export interface ModelServer {
  /** For MODEL_BASE_URL. */
  baseUrl: string
  /** The headers of every request for an answer, in order. */
  requests: IncomingHttpHeaders[]
}

/** The scripted model as an endpoint of its own on loopback, as a model provider would be. */
export async function startModelServer(t: Teardown): Promise<ModelServer> {
  const requests: IncomingHttpHeaders[] = []
  const server = createServer(async (request, response) => {
    const body = await text(request)
    if (request.url !== '/v1/responses') {
      response.end('{"object":"list","data":[],"models":[]}')
      return
    }
    requests.push(request.headers)
    response.setHeader('content-type', 'text/event-stream')
    for (const step of scriptedAnswer(JSON.parse(body) as ModelRequest)) {
      if (step !== 'pause') response.write(`event: ${step.type}\ndata: ${JSON.stringify(step)}\n\n`)
    }
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, requests }
}
