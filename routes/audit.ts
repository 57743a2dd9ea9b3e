import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { Forbidden } from '../errors.ts'
import {
  type AuditFilter,
  AuditFilterSchema,
  AuditPageSchema,
  AuditQuerySchema,
  AuditReportSchema
} from '../schemas/audit.ts'
import { ref } from '../schemas/common.ts'
import type { Identity } from '../schemas/identity.ts'
import { ForUserSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

/** A stream is sent as it is; the schema is for the reader of the OpenAPI document. */
const NdjsonSchema = Type.Unsafe<Readable>({
  type: 'string',
  description: 'application/x-ndjson: one record a line'
})

const auditRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const audit = fastify.getDecorator<FastifyInstance['audit']>('audit')
  const verifyAudit = fastify.getDecorator<FastifyInstance['verifyAudit']>('verifyAudit')

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
      return audit.query(visibleTo(identity, query))
    }
  )

  fastify.get(
    '/audit/export',
    {
      schema: {
        operationId: 'exportAudit',
        tags: ['audit'],
        summary: 'The record as NDJSON, oldest first. Only an admin’s export without filters can be verified',
        querystring: AuditFilterSchema,
        response: { 200: NdjsonSchema, ...sessionErrors }
      }
    },
    async ({ identity, query }, reply) => {
      reply.type('application/x-ndjson')
      return reply.send(Readable.from(audit.exportNdjson(visibleTo(identity, query))))
    }
  )

  fastify.get(
    '/audit/verify',
    {
      schema: {
        operationId: 'verifyAudit',
        tags: ['audit'],
        summary: 'Read the whole log and name what is changed, missing or out of order; admins only',
        querystring: ForUserSchema,
        response: { 200: ref(AuditReportSchema), ...sessionErrors }
      }
    },
    async ({ identity }) => {
      if (!identity.roles.includes('admin')) throw new Forbidden('Only an admin may verify the whole log')
      const { head, ...report } = await verifyAudit()
      return head ? { ...report, head } : report
    }
  )
}

/** Everybody sees their own records, an admin all. */
function visibleTo<F extends AuditFilter>(identity: Identity, filter: F): F {
  return identity.roles.includes('admin') ? filter : { ...filter, userId: identity.userId }
}

export default auditRoutes
