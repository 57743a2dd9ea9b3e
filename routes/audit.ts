import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { AuditPageSchema, AuditQuerySchema } from '../schemas/audit.ts'
import { ref } from '../schemas/common.ts'
import { sessionErrors } from './responses.ts'

const auditRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const audit = fastify.getDecorator<FastifyInstance['audit']>('audit')

  fastify.get(
    '/audit',
    {
      schema: {
        operationId: 'queryAudit',
        tags: ['audit'],
        summary: 'Read the record, newest first: one’s own, as admin everybody’s',
        querystring: AuditQuerySchema,
        response: { 200: ref(AuditPageSchema), ...sessionErrors }
      }
    },
    async ({ identity, query }) => {
      const seesAll = identity.roles.includes('admin')
      return audit.query(seesAll ? query : { ...query, userId: identity.userId })
    }
  )
}

export default auditRoutes
