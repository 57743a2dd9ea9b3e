import { type Static, Type } from 'typebox'
import { UserIdSchema } from './common.ts'

const MAX_PAGE_EVENTS = 1000

/** A place in the journal, `<epoch>:<seq>`: everything up to and with it was seen. Also the ids of the event stream. */
export const PositionSchema = Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}:[0-9]{1,15}$' })

export const EventsQuerySchema = Type.Object(
  {
    userId: Type.Optional(UserIdSchema),
    ticket: Type.Optional(
      Type.String({ maxLength: 128, description: 'From POST /api/tickets, for an EventSource, which sends no headers' })
    ),
    after: Type.Optional(
      Type.Unsafe<string>({
        ...PositionSchema,
        description:
          '`next` of the page before, or the id of an event. Without it a page begins with the oldest event that is ' +
          'kept, a stream with the next to come. The header Last-Event-ID goes before it'
      })
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_PAGE_EVENTS,
        description: 'Events in a page; default 100. Not for streams'
      })
    ),
    compact: Type.Optional(
      Type.Boolean({
        description:
          'Leaves deltas of completed items out; their `item/completed` says which by `replaces`. A stream is exact ' +
          'again from the newest event on'
      })
    )
  },
  { additionalProperties: false }
)
export type EventsQuery = Static<typeof EventsQuerySchema>

const SeqRangeSchema = Type.Object({ from: Type.Integer(), to: Type.Integer() })

/** Events as on /ws; what stands in `replaces` was left out of a compact page or stream. */
export const EventPageSchema = Type.Object(
  {
    epoch: Type.String(),
    events: Type.Array(
      Type.Object(
        {
          type: Type.String(),
          seq: Type.Integer(),
          replaces: Type.Optional(SeqRangeSchema),
          payload: Type.Record(Type.String(), Type.Unknown())
        },
        { description: 'A message as on /ws: event, approval/request, approval/resolved, session/state …' }
      )
    ),
    next: Type.String({
      description:
        'For `after` of the next page. A page may be short, even empty: the last is the one that repeats `after`'
    }),
    gap: Type.Optional(
      Type.Object(SeqRangeSchema.properties, {
        description: 'Events before the first of this page that are gone: read threads and approvals anew'
      })
    )
  },
  { $id: 'EventPage' }
)
export type EventPage = Static<typeof EventPageSchema>

/** The last event of a stream that the gateway ends; codes as on /ws. */
export const SessionClosedSchema = Type.Object({
  type: Type.Literal('session/closed'),
  payload: Type.Object({ code: Type.Integer(), reason: Type.String() })
})
export type SessionClosed = Static<typeof SessionClosedSchema>
