import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { type ModelRequest, type ModelStep, scriptedAnswer } from '../src/demo/scripted-model.ts'

const PAUSE_MS = 20
const BLOCK_CHARS = 16 * 1024
const MAX_BODY_BYTES = 64 * 1024 * 1024

export interface DemoModel {
  /** Base URL for a Responses-API client, on loopback. */
  readonly baseUrl: string
}

declare module 'fastify' {
  interface FastifyInstance {
    demoModel: DemoModel
  }
}

/** Serves the scripted model as a Responses API on a loopback port of its own, for codex processes alone. */
export default fp(
  async function demoModelPlugin(fastify) {
    const model = Fastify({ logger: false, bodyLimit: MAX_BODY_BYTES, forceCloseConnections: true })
    model.post('/v1/responses', (request, reply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      void stream(scriptedAnswer(request.body as ModelRequest), reply.raw, gone.signal)
    })
    model.setNotFoundHandler((_request, reply) => reply.send({ object: 'list', data: [], models: [] }))
    await model.listen({ host: '127.0.0.1', port: 0 })
    fastify.addHook('onClose', () => model.close())

    const { port } = model.server.address() as AddressInfo
    fastify.decorate('demoModel', { baseUrl: `http://127.0.0.1:${port}/v1` })
  },
  { name: 'demo-model' }
)

async function stream(steps: Iterable<ModelStep>, socket: NodeJS.WritableStream, gone: AbortSignal): Promise<void> {
  let text = ''
  // Written in blocks: a write per step would make the model, not codex, the limit of a flood.
  const send = async () => {
    const block = text
    text = ''
    if (block !== '' && !socket.write(block)) await once(socket, 'drain', { signal: gone })
  }
  try {
    for (const step of steps) {
      if (gone.aborted) return
      if (step !== 'pause') text += `event: ${step.type}\ndata: ${JSON.stringify(step)}\n\n`
      if (step === 'pause' || text.length >= BLOCK_CHARS) await send()
      if (step === 'pause') await delay(PAUSE_MS, undefined, { signal: gone })
    }
    socket.end(text)
  } catch {
    // codex hung up in the middle: there is nobody to tell.
  }
}
