import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readEventPage } from '../../src/journal/event-page.ts'
import type { JournalPosition } from '../../src/journal/journal.ts'
import { ThreadFilter } from '../../src/session/thread-filter.ts'
import { EventStream, type EventStreamFrom } from './event-stream.ts'

export interface EventPageQuery {
  after: JournalPosition | undefined
  limit: number
  isCompact: boolean
  /** Only what concerns this thread. */
  threadId: string | undefined
}

/** The journal over HTTP. All of it is about `request.session`. */
export interface Events {
  /** Throws NotFound when the thread is not the user's. */
  requireThread(request: FastifyRequest, threadId: string): Promise<void>
  /** Answers with a stream of server-sent events, until the client or the gateway ends it. */
  stream(request: FastifyRequest, reply: FastifyReply, from: EventStreamFrom): void
  /** A page as JSON, of schemas/events.ts. Rejects with StoreUnavailable. */
  readPage(request: FastifyRequest, query: EventPageQuery): Promise<Buffer>
}

declare module 'fastify' {
  interface FastifyInstance {
    events: Events
  }
}

const COMMA = Buffer.from(',')

/** The events of the users' sessions for HTTP clients: streams, and pages for those that poll. */
export default fp(
  async function eventsPlugin(fastify) {
    const { clients } = fastify
    fastify.decorate('events', {
      async requireThread({ session, identity }, threadId) {
        // A thread of codex's history that the gateway has not seen yet: codex knows whether it is there.
        if (!session.hasThread(threadId)) {
          await session.request('thread/read', { threadId, includeTurns: false }, identity)
        }
      },
      stream: (request, reply, from) => EventStream.attach(request, reply, clients, from),
      async readPage({ session: { journal } }, { after, limit, isCompact, threadId }) {
        const { epoch, lastSeq } = journal
        const afterSeq = after ? journal.locate(after) : 0
        // Of another past: nothing of it can be shown, and the next page goes on from now.
        if (afterSeq === undefined) {
          return encodePage(epoch, { messages: [], nextSeq: lastSeq, gap: { from: Math.min(1, lastSeq), to: lastSeq } })
        }
        const filter = threadId === undefined ? undefined : new ThreadFilter(threadId)
        const pass = filter ? (message: Buffer) => filter.pass(message) : (message: Buffer) => message
        const { gap, ...page } = await readEventPage(journal, { afterSeq, limit, isCompact, pass })
        // Who asks for no place in particular misses nothing.
        return encodePage(epoch, { ...page, ...(after && gap ? { gap } : {}) })
      }
    })
  },
  { name: 'events', dependencies: ['clients'] }
)

/** Joins the messages as they are: to parse them only to write them again would cost more than all the rest. */
function encodePage(epoch: string, { messages, nextSeq, gap }: Awaited<ReturnType<typeof readEventPage>>): Buffer {
  const parts: Buffer[] = [Buffer.from(`{"epoch":"${epoch}","events":[`)]
  messages.forEach((message, index) => {
    if (index > 0) parts.push(COMMA)
    parts.push(message)
  })
  const end = `],"next":"${epoch}:${nextSeq}"${gap ? `,"gap":${JSON.stringify(gap)}` : ''}}`
  return Buffer.concat([...parts, Buffer.from(end)])
}
