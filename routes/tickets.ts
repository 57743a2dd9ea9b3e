import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { ref } from '../schemas/common.ts'
import { TicketSchema } from '../schemas/service.ts'
import { ForUserSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const ticketRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const auth = fastify.getDecorator<FastifyInstance['auth']>('auth')

  fastify.post(
    '/tickets',
    {
      schema: {
        operationId: 'createTicket',
        tags: ['service'],
        summary: 'Get a single-use ticket (30 s) for a WebSocket URL, where no header can carry the token',
        querystring: ForUserSchema,
        response: { 201: ref(TicketSchema), ...sessionErrors }
      }
    },
    async ({ identity }, reply) => {
      const { ticket, expiresAtMs } = auth.issueTicket(identity)
      return reply.code(201).send({ ticket, expiresAt: new Date(expiresAtMs).toISOString() })
    }
  )
}

export default ticketRoutes
