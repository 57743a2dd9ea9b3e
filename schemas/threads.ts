import { Type } from 'typebox'
import { IdSchema, UserIdSchema } from './common.ts'
import { ThreadStartParamsSchema } from './methods/thread.ts'
import { ThreadListParamsSchema } from './methods/thread-history.ts'
import { TurnStartParamsSchema } from './methods/turn.ts'

const openObject = (description: string) => Type.Record(Type.String(), Type.Unknown(), { description })

/** Whose session the request is about; only `service` and `admin` may name somebody else. */
export const ForUserSchema = Type.Object({ userId: Type.Optional(UserIdSchema) }, { additionalProperties: false })

export const ThreadIdPathSchema = Type.Object({ threadId: IdSchema })
export const TurnPathSchema = Type.Object({ threadId: IdSchema, turnId: IdSchema })

export const CreateThreadBodySchema = Type.Object(
  { userId: Type.Optional(UserIdSchema), ...ThreadStartParamsSchema.properties },
  { additionalProperties: false }
)

const DroppedSchema = Type.Optional(
  Type.Array(Type.String(), { description: 'Known fields that the role may not set and that codex did not get' })
)

export const ThreadSchema = Type.Object(
  { threadId: IdSchema, thread: openObject('The thread as codex describes it'), dropped: DroppedSchema },
  { $id: 'Thread', additionalProperties: true }
)

const { cursor, searchTerm } = ThreadListParamsSchema.properties
export const ListThreadsQuerySchema = Type.Object(
  {
    userId: Type.Optional(UserIdSchema),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200 })),
    cursor,
    archived: Type.Optional(Type.Boolean()),
    searchTerm
  },
  { additionalProperties: false }
)

export const ThreadListSchema = Type.Object(
  {
    data: Type.Array(openObject('A thread as codex describes it')),
    nextCursor: Type.Union([Type.String(), Type.Null()])
  },
  { $id: 'ThreadList', additionalProperties: true }
)

const { threadId: _threadId, ...turnFields } = TurnStartParamsSchema.properties
export const StartTurnBodySchema = Type.Object(
  { userId: Type.Optional(UserIdSchema), ...turnFields },
  { additionalProperties: false }
)

export const TurnSchema = Type.Object(
  { turnId: IdSchema, turn: openObject('The turn as codex describes it'), dropped: DroppedSchema },
  { $id: 'Turn', additionalProperties: true }
)

export const EmptySchema = Type.Object({}, { $id: 'Empty' })
