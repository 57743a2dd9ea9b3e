import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { ref } from '../schemas/common.ts'
import { PolicyEvaluateBodySchema, PolicyEvaluateResultSchema } from '../schemas/policy.ts'
import { ForUserSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const policyRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')
  const policy = fastify.getDecorator<FastifyInstance['policy']>('policy')

  fastify.post(
    '/policy/evaluate',
    {
      schema: {
        operationId: 'evaluatePolicy',
        tags: ['policy'],
        summary: 'Ask what the policy would decide; nothing happens',
        querystring: ForUserSchema,
        body: PolicyEvaluateBodySchema,
        response: { 200: ref(PolicyEvaluateResultSchema), ...sessionErrors }
      }
    },
    async ({ identity, body }) => {
      const { view } = await sessions.open(identity.userId)
      return policy.evaluate(body, view.workspace)
    }
  )
}

export default policyRoutes
