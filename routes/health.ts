import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { ref } from '../schemas/common.ts'
import { HealthSchema, ReadySchema } from '../schemas/service.ts'

export interface HealthRouteOptions {
  version: string
}

/** Polled by supervisors and load balancers: no auth, and no line in the log unless something is wrong. */
const healthRoutes: FastifyPluginAsyncTypebox<HealthRouteOptions> = async (fastify, { version }) => {
  const store = fastify.getDecorator<FastifyInstance['store']>('store')
  const journals = fastify.getDecorator<FastifyInstance['journalWriter']>('journalWriter')
  const audit = fastify.getDecorator<FastifyInstance['audit']>('audit')
  const pool = fastify.getDecorator<FastifyInstance['pool']>('pool')
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')
  const quiet = { logLevel: 'warn' } as const

  fastify.get(
    '/health',
    {
      ...quiet,
      schema: {
        operationId: 'getHealth',
        tags: ['service'],
        summary: 'Whether the process lives',
        security: [],
        response: { 200: ref(HealthSchema) }
      }
    },
    async () => ({ status: 'ok' as const, version })
  )

  fastify.get(
    '/ready',
    {
      ...quiet,
      schema: {
        operationId: 'getReady',
        tags: ['service'],
        summary:
          'Whether it can serve: the store answers and takes journals, the audit log takes records, it is not about to end',
        security: [],
        response: { 200: ref(ReadySchema), 503: ref(ReadySchema) }
      }
    },
    async (_request, reply) => {
      const answers = await store.ping().then(
        () => true,
        () => false
      )
      // A full disk can still be read.
      const isStoreUp = answers && journals.isHealthy
      const isAuditUp = audit.unavailableReason === undefined
      const isReady = isStoreUp && isAuditUp && !sessions.isDraining
      return reply.code(isReady ? 200 : 503).send({
        status: isReady ? 'ready' : 'not ready',
        checks: { store: isStoreUp ? 'ok' : 'failing', audit: isAuditUp ? 'ok' : 'failing' },
        processes: { running: pool.size, max: pool.maxProcesses }
      })
    }
  )
}

export default healthRoutes
