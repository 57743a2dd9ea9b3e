import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { ref } from '../schemas/common.ts'
import {
  CreateThreadBodySchema,
  EmptySchema,
  ForUserSchema,
  ListThreadsQuerySchema,
  StartTurnBodySchema,
  ThreadIdPathSchema,
  ThreadListSchema,
  ThreadSchema,
  TurnPathSchema,
  TurnSchema
} from '../schemas/threads.ts'
import { sessionErrors } from './responses.ts'

const tags = ['threads']

/** Threads and turns of the caller's session: each route is one app-server method. */
const threadRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')

  fastify.post(
    '/threads',
    {
      schema: {
        operationId: 'createThread',
        tags,
        summary: 'Start a thread',
        body: CreateThreadBodySchema,
        response: { 201: ref(ThreadSchema), ...sessionErrors }
      }
    },
    async ({ identity, body: { userId: _userId, ...params } }, reply) => {
      const session = await sessions.open(identity.userId)
      const { payload, dropped } = await session.request('thread/start', params, identity)
      return reply.code(201).send({ ...payload, ...(dropped.length ? { dropped } : {}) } as never)
    }
  )

  fastify.get(
    '/threads',
    {
      schema: {
        operationId: 'listThreads',
        tags,
        summary: 'List threads, newest first',
        querystring: ListThreadsQuerySchema,
        response: { 200: ref(ThreadListSchema), ...sessionErrors }
      }
    },
    async ({ identity, query: { userId: _userId, ...params } }) => {
      const session = await sessions.open(identity.userId)
      return (await session.request('thread/list', params, identity)).payload as never
    }
  )

  fastify.get(
    '/threads/:threadId',
    {
      schema: {
        operationId: 'getThread',
        tags,
        summary: 'Read a thread with its turns',
        params: ThreadIdPathSchema,
        querystring: ForUserSchema,
        response: { 200: ref(ThreadSchema), ...sessionErrors }
      }
    },
    async ({ identity, params: { threadId } }) => {
      const session = await sessions.open(identity.userId)
      return (await session.request('thread/read', { threadId, includeTurns: true }, identity)).payload as never
    }
  )

  fastify.post(
    '/threads/:threadId/turns',
    {
      schema: {
        operationId: 'startTurn',
        tags,
        summary: 'Start a turn; its events go to the attached clients',
        params: ThreadIdPathSchema,
        body: StartTurnBodySchema,
        response: { 201: ref(TurnSchema), ...sessionErrors }
      }
    },
    async ({ identity, params: { threadId }, body: { userId: _userId, ...params } }, reply) => {
      const session = await sessions.open(identity.userId)
      const { payload, dropped } = await session.request('turn/start', { ...params, threadId }, identity)
      return reply.code(201).send({ ...payload, ...(dropped.length ? { dropped } : {}) } as never)
    }
  )

  fastify.post(
    '/threads/:threadId/turns/:turnId/interrupt',
    {
      schema: {
        operationId: 'interruptTurn',
        tags,
        summary: 'Stop a running turn',
        params: TurnPathSchema,
        querystring: ForUserSchema,
        response: { 200: ref(EmptySchema), ...sessionErrors }
      }
    },
    async ({ identity, params: { threadId, turnId } }) => {
      const session = await sessions.open(identity.userId)
      return (await session.request('turn/interrupt', { threadId, turnId }, identity)).payload
    }
  )
}

export default threadRoutes
