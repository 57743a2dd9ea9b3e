import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { ref } from '../schemas/common.ts'
import { UsageQuerySchema, UsageSchema } from '../schemas/usage.ts'
import { sessionErrors } from './responses.ts'

const DAY_CHARS = 'YYYY-MM-DD'.length

const usageRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const broker = fastify.getDecorator<FastifyInstance['broker']>('broker')

  fastify.get(
    '/usage',
    {
      schema: {
        operationId: 'getUsage',
        tags: ['usage'],
        summary: 'Tokens and their cost per thread, model and UTC day: one’s own, as admin everybody’s',
        querystring: UsageQuerySchema,
        response: { 200: ref(UsageSchema), ...sessionErrors }
      }
    },
    async ({ identity, query }) => {
      const today = new Date().toISOString().slice(0, DAY_CHARS)
      const { from = today, to = today } = query
      const userId = identity.roles.includes('admin') ? query.userId : identity.userId
      const rows = await broker.usage(userId, from, to)
      return userId === undefined ? { rows } : { rows, limits: broker.limitsOf(userId) }
    }
  )
}

export default usageRoutes
