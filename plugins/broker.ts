import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import fp from 'fastify-plugin'
import type { Limits, Usage } from '../schemas/usage.ts'
import { LimitsBook } from '../src/broker/limits-file.ts'
import { ModelBroker, type ModelBrokerOptions } from '../src/broker/model-broker.ts'
import type { ModelGrant } from '../src/broker/process-tokens.ts'
import { UsageLedger } from '../src/broker/usage-ledger.ts'
import { UsageMeter } from '../src/broker/usage-meter.ts'

export interface BrokerOptions extends Omit<ModelBrokerOptions, 'log' | 'admit'> {
  /** LIMITS_FILE; undefined: no limits and no prices. */
  limitsFile: string | undefined
}

/** codex says in a header what it works on, with the addresses of each repository. */
const MAX_HEADER_BYTES = 64 * 1024
/** Longer than codex keeps a connection: closing first would cut a request that is on its way. */
const KEEP_ALIVE_MS = 120_000

export interface Broker {
  /** Base URL of the Responses API that codex processes know, on loopback. */
  readonly baseUrl: string
  /** See ModelBroker.grant. */
  grant(userId: string): ModelGrant
  /** See UsageLedger.query. */
  usage(userId: string | undefined, from: string, to: string): Promise<Usage['rows']>
  limitsOf(userId: string): Limits
}

declare module 'fastify' {
  interface FastifyInstance {
    broker: Broker
  }
}

/** The model endpoint for codex processes, on a loopback port of its own: it has the key, they have a token each. */
export default fp<BrokerOptions>(
  async function brokerPlugin(fastify, { limitsFile, ...options }) {
    const { log } = fastify
    const limits = await LimitsBook.read(limitsFile)
    const ledger = new UsageLedger(fastify.documents, (error) => log.error({ err: error }, 'usage cannot be stored'))
    const meter = new UsageMeter({
      ledger,
      limits,
      onLimit: (userId, limit) => {
        log.warn({ userId, ...limit }, 'a budget is used up to a mark')
        fastify.sessions.find(userId)?.tellLimit(limit)
      },
      onProblem: (userId, error) => log.error({ userId, err: error }, 'usage is not counted')
    })
    const broker = new ModelBroker({ ...options, admit: (request) => meter.admit(request), log })
    const server = createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: KEEP_ALIVE_MS },
      (request, response) => void broker.handle(request, response)
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    fastify.addHook('onClose', async () => {
      await broker.close()
      await ledger.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    })

    const { port } = server.address() as AddressInfo
    fastify.decorate('broker', {
      baseUrl: `http://127.0.0.1:${port}/v1`,
      grant: (userId) => broker.grant(userId),
      usage: (userId, from, to) => ledger.query(userId, from, to),
      limitsOf: (userId) => limits.limitsOf(userId)
    })
  },
  { name: 'broker', dependencies: ['store'] }
)
