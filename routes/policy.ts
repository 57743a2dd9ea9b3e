import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Forbidden } from '../errors.ts'
import { ref } from '../schemas/common.ts'
import {
  PolicyEvaluateBodySchema,
  PolicyEvaluateResultSchema,
  PolicyFileSchema,
  PolicyViewSchema
} from '../schemas/policy.ts'
import { ForUserSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const policyRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')
  const policy = fastify.getDecorator<FastifyInstance['policy']>('policy')
  const audit = fastify.getDecorator<FastifyInstance['audit']>('audit')

  fastify.get(
    '/policy',
    {
      schema: {
        operationId: 'getPolicy',
        tags: ['policy'],
        summary: 'The policy that decides for the user, and the layer that is theirs alone',
        querystring: ForUserSchema,
        response: { 200: ref(PolicyViewSchema), ...sessionErrors }
      }
    },
    async ({ identity }) => policy.view(identity.userId)
  )

  fastify.put(
    '/policy',
    {
      schema: {
        operationId: 'replacePolicy',
        tags: ['policy'],
        summary: 'Replace the user’s own layer; admins only, because a layer may loosen what the organisation set',
        querystring: ForUserSchema,
        body: PolicyFileSchema,
        response: { 200: ref(PolicyViewSchema), ...sessionErrors }
      }
    },
    async ({ identity, body }) => {
      const { userId, actorId, roles } = identity
      if (!roles.includes('admin')) throw new Forbidden('Only an admin may change a policy')
      const actor = { kind: 'user', id: actorId, role: 'admin' } as const
      const message = `the user's policy layer becomes ${JSON.stringify(body)}`
      const entry = { type: 'note', event: 'policy-changed', userId, actor, message } as const
      return policy.setUserLayer(userId, body, () => audit.append(entry))
    }
  )

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
      return policy.evaluate(body, await sessions.open(identity.userId))
    }
  )
}

export default policyRoutes
