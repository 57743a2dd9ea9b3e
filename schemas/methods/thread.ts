import { type Static, Type } from 'typebox'
import { IdSchema } from '../common.ts'
import {
  CLOSED,
  ItemsViewSchema,
  LimitSchema,
  NameSchema,
  orNull,
  PathSchema,
  PhraseSchema,
  ProseSchema,
  SortDirectionSchema,
  WithheldSchema
} from './atoms.ts'

/** `workingDirectory` is our name for `cwd`: relative = under the workspace. Only one of the two may be given. */
export const directoryFields = { cwd: orNull(PathSchema), workingDirectory: orNull(PathSchema) }

/** Where a thread runs, what it may touch and who reviews it: the gateway's to say. */
const governedFields = {
  approvalPolicy: WithheldSchema,
  approvalsReviewer: WithheldSchema,
  sandbox: WithheldSchema,
  permissions: WithheldSchema,
  config: WithheldSchema,
  runtimeWorkspaceRoots: WithheldSchema,
  modelProvider: WithheldSchema
}

const modelFields = {
  model: orNull(NameSchema),
  serviceTier: orNull(NameSchema),
  baseInstructions: orNull(ProseSchema),
  developerInstructions: orNull(ProseSchema)
}

const PersonalitySchema = Type.Enum(['none', 'friendly', 'pragmatic'])

/** Codex ignores it now; still sent by older clients. */
export const styleFields = {
  personality: orNull(PersonalitySchema),
  multiAgentMode: orNull(
    Type.Union([Type.Enum(['explicitRequestOnly', 'proactive']), Type.Object({ custom: PhraseSchema }, CLOSED)])
  )
}

const dynamicToolFields = {
  type: Type.Literal('function'),
  name: NameSchema,
  description: ProseSchema,
  inputSchema: Type.Unknown(),
  deferLoading: Type.Optional(Type.Boolean())
}

const DynamicToolSchema = Type.Union([
  Type.Object(dynamicToolFields, CLOSED),
  Type.Object(
    {
      type: Type.Literal('namespace'),
      name: NameSchema,
      description: ProseSchema,
      tools: Type.Array(Type.Object(dynamicToolFields, CLOSED), { maxItems: 64 })
    },
    CLOSED
  )
])

export const ThreadStartParamsSchema = Type.Object(
  {
    ...directoryFields,
    ...governedFields,
    ...modelFields,
    ...styleFields,
    allowProviderModelFallback: Type.Optional(Type.Boolean()),
    ephemeral: orNull(Type.Boolean()),
    historyMode: orNull(Type.Enum(['legacy', 'paginated'])),
    sessionStartSource: orNull(Type.Enum(['startup', 'clear'])),
    threadSource: orNull(NameSchema),
    dynamicTools: orNull(Type.Array(DynamicToolSchema, { maxItems: 64 })),
    daybreakEnabled: WithheldSchema,
    environments: WithheldSchema,
    experimentalRawEvents: WithheldSchema,
    mockExperimentalField: WithheldSchema,
    projectId: WithheldSchema,
    selectedCapabilityRoots: WithheldSchema,
    serviceName: WithheldSchema
  },
  CLOSED
)
export type ThreadStartParams = Static<typeof ThreadStartParamsSchema>

export const ThreadResumeParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    ...directoryFields,
    ...governedFields,
    ...modelFields,
    personality: orNull(PersonalitySchema),
    excludeTurns: Type.Optional(Type.Boolean()),
    initialTurnsPage: orNull(
      Type.Object(
        {
          limit: orNull(LimitSchema),
          sortDirection: orNull(SortDirectionSchema),
          itemsView: orNull(ItemsViewSchema)
        },
        CLOSED
      )
    ),
    history: WithheldSchema,
    path: WithheldSchema
  },
  CLOSED
)
export type ThreadResumeParams = Static<typeof ThreadResumeParamsSchema>

export const ThreadForkParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    ...directoryFields,
    ...governedFields,
    ...modelFields,
    beforeTurnId: orNull(IdSchema),
    lastTurnId: orNull(IdSchema),
    attachToSource: Type.Optional(Type.Boolean()),
    deferGoalContinuation: Type.Optional(Type.Boolean()),
    ephemeral: Type.Optional(Type.Boolean()),
    excludeTurns: Type.Optional(Type.Boolean()),
    threadSource: orNull(NameSchema),
    experimentalDisablePredictionMcp: WithheldSchema,
    experimentalPredictionMode: WithheldSchema,
    path: WithheldSchema
  },
  CLOSED
)
export type ThreadForkParams = Static<typeof ThreadForkParamsSchema>

export const ThreadNameSetParamsSchema = Type.Object({ threadId: IdSchema, name: PhraseSchema }, CLOSED)

export const ThreadMetadataUpdateParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    gitInfo: orNull(
      Type.Object({ branch: orNull(PhraseSchema), originUrl: orNull(PhraseSchema), sha: orNull(NameSchema) }, CLOSED)
    ),
    daybreakEnabled: WithheldSchema,
    projectId: WithheldSchema
  },
  CLOSED
)

export const ThreadRevertParamsSchema = Type.Object({ threadId: IdSchema, beforeTurnId: IdSchema }, CLOSED)

export const ThreadReadStateUpdateParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    expectedRevision: NameSchema,
    operation: Type.Object({ type: Type.Enum(['read', 'unread']) }, CLOSED)
  },
  CLOSED
)

const goalOrigin = { origin: orNull(Type.Enum(['user', 'automatic'])) }

export const ThreadGoalSetParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    objective: orNull(ProseSchema),
    status: orNull(Type.Enum(['active', 'paused', 'blocked', 'usageLimited', 'budgetLimited', 'complete'])),
    tokenBudget: orNull(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    ...goalOrigin
  },
  CLOSED
)

export const ThreadGoalClearParamsSchema = Type.Object({ threadId: IdSchema, ...goalOrigin }, CLOSED)

export const BackgroundTerminalTerminateParamsSchema = Type.Object({ threadId: IdSchema, processId: IdSchema }, CLOSED)
