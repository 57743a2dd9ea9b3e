import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import fp from 'fastify-plugin'
import { ModelBroker, type ModelBrokerOptions } from '../src/broker/model-broker.ts'
import type { ModelGrant } from '../src/broker/process-tokens.ts'

export type BrokerOptions = Omit<ModelBrokerOptions, 'log'>

/** codex says in a header what it works on, with the addresses of each repository. */
const MAX_HEADER_BYTES = 64 * 1024
/** Longer than codex keeps a connection: closing first would cut a request that is on its way. */
const KEEP_ALIVE_MS = 120_000

export interface Broker {
  /** Base URL of the Responses API that codex processes know, on loopback. */
  readonly baseUrl: string
  /** See ModelBroker.grant. */
  grant(userId: string): ModelGrant
}

declare module 'fastify' {
  interface FastifyInstance {
    broker: Broker
  }
}

/** The model endpoint for codex processes, on a loopback port of its own: it has the key, they have a token each. */
export default fp<BrokerOptions>(
  async function brokerPlugin(fastify, options) {
    const broker = new ModelBroker({ ...options, log: fastify.log })
    const server = createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: KEEP_ALIVE_MS },
      (request, response) => void broker.handle(request, response)
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    fastify.addHook('onClose', async () => {
      await broker.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    })

    const { port } = server.address() as AddressInfo
    fastify.decorate('broker', {
      baseUrl: `http://127.0.0.1:${port}/v1`,
      grant: (userId) => broker.grant(userId)
    })
  },
  { name: 'broker' }
)
