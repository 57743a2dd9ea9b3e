import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { ValidationFailed } from '../errors.ts'
import { ref } from '../schemas/common.ts'
import { EventPageSchema, type EventsQuery, EventsQuerySchema, PositionSchema } from '../schemas/events.ts'
import { ThreadIdPathSchema } from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const EVENT_STREAM = 'text/event-stream'
const DEFAULT_LIMIT = 100
const checkPosition = Compile(PositionSchema)

const description =
  'With `Accept: text/event-stream` a stream of server-sent events that goes on until it is closed: each message of /ws ' +
  'as `id: <epoch>:<seq>`, `event: <type>` and `data: <message>`, first session/ready, last session/closed. It resumes ' +
  'after `Last-Event-ID` or `after`. Otherwise a page for scripts that poll.'

const response = {
  200: {
    description: 'A page, or a stream',
    content: {
      'application/json': { schema: ref(EventPageSchema) },
      [EVENT_STREAM]: { schema: Type.Unsafe<string>({ type: 'string' }) }
    }
  },
  ...sessionErrors
}

/** The journal over HTTP: server-sent events, and pages for scripts that poll. */
const eventRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const { openSession } = fastify.getDecorator<FastifyInstance['clients']>('clients')
  const events = fastify.getDecorator<FastifyInstance['events']>('events')

  const answer = async (request: FastifyRequest, reply: FastifyReply, threadId: string | undefined) => {
    const { after, limit = DEFAULT_LIMIT, compact = false } = request.query as EventsQuery
    const { accept = '', 'last-event-id': lastEventId } = request.headers
    if (accept.includes(EVENT_STREAM)) {
      const position = readPosition(lastEventId ?? after)
      events.stream(request, reply, { from: position && { ...position, compact }, threadId })
      return reply
    }
    const page = await events.readPage(request, { after: readPosition(after), limit, isCompact: compact, threadId })
    return reply.type('application/json; charset=utf-8').send(page)
  }

  fastify.get(
    '/events',
    {
      // A HEAD would open a stream that nobody reads.
      exposeHeadRoute: false,
      schema: {
        operationId: 'readEvents',
        tags: ['events'],
        summary: 'The events of the caller’s session, as a stream or in pages',
        description,
        querystring: EventsQuerySchema,
        response
      },
      preHandler: openSession
    },
    (request, reply) => answer(request, reply, undefined) as never
  )

  fastify.get(
    '/threads/:threadId/events',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'readThreadEvents',
        tags: ['events'],
        summary: 'The events of one thread, as a stream or in pages; numbers of other threads’ events are left out',
        description,
        params: ThreadIdPathSchema,
        querystring: EventsQuerySchema,
        response
      },
      preHandler: openSession
    },
    async (request, reply) => {
      const { threadId } = request.params
      await events.requireThread(request, threadId)
      return (await answer(request, reply, threadId)) as never
    }
  )
}

/** Throws ValidationFailed for what is no place in a journal. */
function readPosition(text: string | string[] | undefined): { epoch: string; since: number } | undefined {
  if (text === undefined || text === '') return undefined
  if (!checkPosition.Check(text)) throw new ValidationFailed('Last-Event-ID must be <epoch>:<seq>')
  const [epoch = '', seq = ''] = text.split(':')
  return { epoch, since: Number(seq) }
}

export default eventRoutes
