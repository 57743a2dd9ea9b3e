import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import {
  ApprovalListSchema,
  ApprovalResolvedSchema,
  ApprovalSchema,
  ExtendBodySchema,
  RespondBodySchema
} from '../schemas/approvals.ts'
import { ApiErrorSchema, IdSchema, ref } from '../schemas/common.ts'
import { ForUserSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const tags = ['approvals']

const approvalRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')

  fastify.get(
    '/approvals',
    {
      config: { isForApprovers: true },
      schema: {
        operationId: 'listApprovals',
        tags,
        summary: 'List the approvals that wait for a decision',
        querystring: ForUserSchema,
        response: { 200: ref(ApprovalListSchema), ...sessionErrors }
      }
    },
    async ({ identity }) => ({ approvals: sessions.find(identity.userId)?.pendingApprovals() ?? [] })
  )

  fastify.post(
    '/approvals/:approvalId/respond',
    {
      config: { isForApprovers: true },
      schema: {
        operationId: 'respondToApproval',
        tags,
        summary: 'Decide an approval; the first answer wins',
        params: Type.Object({ approvalId: IdSchema }),
        querystring: ForUserSchema,
        body: RespondBodySchema,
        response: { 200: ref(ApprovalResolvedSchema), 409: ref(ApiErrorSchema), ...sessionErrors }
      }
    },
    async ({ identity, params: { approvalId }, body }) => {
      const session = await sessions.open(identity.userId)
      return session.respond(approvalId, body, identity)
    }
  )

  fastify.post(
    '/approvals/:approvalId/extend',
    {
      config: { isForApprovers: true },
      schema: {
        operationId: 'extendApproval',
        tags,
        summary: 'Give everybody more time to decide, within APPROVAL_MAX_MS',
        params: Type.Object({ approvalId: IdSchema }),
        querystring: ForUserSchema,
        body: ExtendBodySchema,
        response: { 200: ref(ApprovalSchema), 409: ref(ApiErrorSchema), ...sessionErrors }
      }
    },
    async ({ identity, params: { approvalId }, body: { ms } }) => {
      const session = await sessions.open(identity.userId)
      return session.extend(approvalId, ms, identity)
    }
  )
}

export default approvalRoutes
