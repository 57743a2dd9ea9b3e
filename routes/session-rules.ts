import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { SessionRuleListSchema } from '../schemas/approvals.ts'
import { IdSchema, ref } from '../schemas/common.ts'
import { EmptySchema, ForUserSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const tags = ['approvals']

const sessionRuleRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')

  fastify.get(
    '/session-rules',
    {
      schema: {
        operationId: 'listSessionRules',
        tags,
        summary: 'List what was accepted for the session and is not asked again',
        querystring: ForUserSchema,
        response: { 200: ref(SessionRuleListSchema), ...sessionErrors }
      }
    },
    async ({ identity }) => ({ rules: (await sessions.open(identity.userId)).sessionRules() })
  )

  fastify.delete(
    '/session-rules/:ruleId',
    {
      schema: {
        operationId: 'revokeSessionRule',
        tags,
        summary: 'End a standing acceptance: the same question is asked again',
        params: Type.Object({ ruleId: IdSchema }),
        querystring: ForUserSchema,
        response: { 200: ref(EmptySchema), ...sessionErrors }
      }
    },
    async ({ identity, params: { ruleId } }) => {
      const session = await sessions.open(identity.userId)
      await session.revokeSessionRule(ruleId, identity)
      return {}
    }
  )
}

export default sessionRuleRoutes
