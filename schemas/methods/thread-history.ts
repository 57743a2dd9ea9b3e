import { type Static, Type } from 'typebox'
import { IdSchema } from '../common.ts'
import {
  CLOSED,
  CursorSchema,
  IdsSchema,
  ItemsViewSchema,
  LimitSchema,
  NameSchema,
  orNull,
  PathSchema,
  PhraseSchema,
  SortDirectionSchema
} from './atoms.ts'

const pageFields = {
  cursor: orNull(CursorSchema),
  limit: orNull(LimitSchema),
  sortDirection: orNull(SortDirectionSchema)
}

const SourceKindsSchema = Type.Array(
  Type.Enum([
    'cli',
    'vscode',
    'exec',
    'appServer',
    'subAgent',
    'subAgentReview',
    'subAgentCompact',
    'subAgentThreadSpawn',
    'subAgentOther',
    'unknown'
  ]),
  { maxItems: 16 }
)

const listFields = {
  archived: orNull(Type.Boolean()),
  currentAccountOnly: Type.Optional(Type.Boolean()),
  includeAttachedThreads: Type.Optional(Type.Boolean()),
  sourceKinds: orNull(SourceKindsSchema)
}

export const ThreadListParamsSchema = Type.Object(
  {
    ...pageFields,
    ...listFields,
    sortKey: orNull(Type.Enum(['created_at', 'updated_at', 'recency_at', 'section_position'])),
    cwd: orNull(Type.Union([PathSchema, Type.Array(PathSchema, { maxItems: 32 })])),
    searchTerm: orNull(PhraseSchema),
    sectionId: orNull(IdSchema),
    projectId: orNull(IdSchema),
    parentThreadId: orNull(IdSchema),
    ancestorThreadId: orNull(IdSchema),
    attachedToThreadId: orNull(IdSchema),
    excludedThreadIds: orNull(IdsSchema),
    modelProviders: orNull(Type.Array(NameSchema, { maxItems: 32 })),
    originators: orNull(Type.Array(NameSchema, { maxItems: 32 })),
    useStateDbOnly: Type.Optional(Type.Boolean())
  },
  CLOSED
)
export type ThreadListParams = Static<typeof ThreadListParamsSchema>

export const ThreadReadParamsSchema = Type.Object(
  { threadId: IdSchema, includeTurns: Type.Optional(Type.Boolean()) },
  CLOSED
)
export type ThreadReadParams = Static<typeof ThreadReadParamsSchema>

export const ThreadTurnsListParamsSchema = Type.Object(
  { threadId: IdSchema, ...pageFields, itemsView: orNull(ItemsViewSchema) },
  CLOSED
)
export type ThreadTurnsListParams = Static<typeof ThreadTurnsListParamsSchema>

const ItemAnchorSchema = Type.Object({ type: Type.Literal('item'), itemId: IdSchema }, CLOSED)

export const ThreadItemsListParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    turnId: orNull(IdSchema),
    ...pageFields,
    cursor: orNull(Type.Union([CursorSchema, ItemAnchorSchema])),
    deferOutput: orNull(
      Type.Object(
        { commandExecution: Type.Optional(Type.Boolean()), mcpToolCall: Type.Optional(Type.Boolean()) },
        CLOSED
      )
    )
  },
  CLOSED
)

export const ThreadItemsReadParamsSchema = Type.Object(
  { threadId: IdSchema, turnId: IdSchema, itemIds: Type.Array(IdSchema, { minItems: 1, maxItems: 100 }) },
  CLOSED
)

export const ThreadSearchParamsSchema = Type.Object(
  {
    ...pageFields,
    ...listFields,
    sortKey: orNull(Type.Enum(['created_at', 'updated_at', 'recency_at'])),
    searchTerm: PhraseSchema
  },
  CLOSED
)

export const ThreadSearchOccurrencesParamsSchema = Type.Object(
  { threadId: IdSchema, searchTerm: PhraseSchema, cursor: orNull(CursorSchema), limit: orNull(LimitSchema) },
  CLOSED
)
