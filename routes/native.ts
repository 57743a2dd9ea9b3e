import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { WebSocket } from 'ws'
import { UpgradeRequired } from '../errors.ts'
import { UserIdSchema } from '../schemas/common.ts'

const QuerySchema = Type.Object(
  {
    userId: Type.Optional(UserIdSchema),
    ticket: Type.Optional(Type.String({ maxLength: 128 }))
  },
  { additionalProperties: false }
)

/** codex's own protocol, where its clients look for it: they take an address without a path. */
const nativeRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const clients = fastify.getDecorator<FastifyInstance['clients']>('clients')
  const authenticate = fastify.getDecorator<FastifyInstance['authenticate']>('authenticate')
  const recordAccess = fastify.getDecorator<FastifyInstance['recordAccess']>('recordAccess')
  /** Who only looks what is here needs no token. */
  const forSockets = (hook: (request: FastifyRequest) => Promise<void>) => async (request: FastifyRequest) => {
    if (request.ws) await hook(request)
  }

  fastify.route({
    method: 'GET',
    url: '/',
    schema: { querystring: QuerySchema, hide: true },
    preValidation: forSockets(authenticate),
    preHandler: [forSockets(recordAccess), forSockets(clients.openSession)],
    handler: async () => {
      throw new UpgradeRequired()
    },
    wsHandler: (socket: WebSocket, request) => clients.attachNative(socket, request)
  })
}

export default nativeRoutes
