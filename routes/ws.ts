import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import type { WebSocket } from 'ws'
import { UpgradeRequired } from '../errors.ts'
import { UserIdSchema } from '../schemas/common.ts'

const QuerySchema = Type.Object(
  {
    userId: Type.Optional(UserIdSchema),
    ticket: Type.Optional(Type.String({ maxLength: 128 })),
    epoch: Type.Optional(Type.String({ maxLength: 64 })),
    since: Type.Optional(Type.Integer({ minimum: 0 })),
    compact: Type.Optional(Type.Boolean())
  },
  { additionalProperties: false }
)

/** The gateway's own message protocol over WebSocket. */
const wsRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const clients = fastify.getDecorator<FastifyInstance['clients']>('clients')

  fastify.route({
    method: 'GET',
    url: '/ws',
    schema: { querystring: QuerySchema, hide: true },
    // Before the upgrade: what goes wrong is an HTTP status, and no message can come in while the session opens.
    preHandler: clients.openSession,
    handler: async () => {
      throw new UpgradeRequired()
    },
    wsHandler: (socket: WebSocket, request) => {
      const { epoch, since, compact } = request.query as Static<typeof QuerySchema>
      clients.attachWebSocket(
        socket,
        request,
        epoch === undefined || since === undefined ? undefined : { epoch, since, compact }
      )
    }
  })
}

export default wsRoutes
