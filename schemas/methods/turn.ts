import { type Static, Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, IdsSchema, NameSchema, orNull, PhraseSchema, ProseSchema, WithheldSchema } from './atoms.ts'
import { directoryFields, styleFields } from './thread.ts'
import { InputSchema } from './user-input.ts'

/** Closed by hand: a record leaves the values of keys that miss its pattern unchecked. */
const AdditionalContextSchema = Type.Record(
  Type.String({ pattern: '^[^\\u0000-\\u001f]{1,256}$' }),
  Type.Object(
    { kind: Type.Enum(['untrusted', 'application']), value: ProseSchema, name: orNull(PhraseSchema) },
    CLOSED
  ),
  { ...CLOSED, maxProperties: 64 }
)

const EffortSchema = Type.String({ minLength: 1, maxLength: 64 })

const CollaborationModeSchema = Type.Object(
  {
    mode: Type.Enum(['plan', 'default']),
    settings: Type.Object(
      { model: NameSchema, reasoning_effort: orNull(EffortSchema), developer_instructions: orNull(ProseSchema) },
      CLOSED
    )
  },
  CLOSED
)

const inputFields = {
  threadId: IdSchema,
  input: InputSchema,
  clientUserMessageId: orNull(IdSchema),
  additionalContext: orNull(AdditionalContextSchema),
  responsesapiClientMetadata: WithheldSchema,
  responsesapiClientMetadataPatch: WithheldSchema
}

export const TurnStartParamsSchema = Type.Object(
  {
    ...inputFields,
    ...directoryFields,
    ...styleFields,
    model: orNull(NameSchema),
    effort: orNull(EffortSchema),
    summary: orNull(Type.Enum(['auto', 'concise', 'detailed', 'none'])),
    serviceTier: orNull(NameSchema),
    serviceTierForTurn: orNull(NameSchema),
    collaborationMode: orNull(CollaborationModeSchema),
    outputSchema: Type.Optional(Type.Unknown()),
    disabledPluginIds: orNull(IdsSchema),
    turnTrigger: orNull(NameSchema),
    parentTurnId: orNull(IdSchema),
    rootTurnId: orNull(IdSchema),
    approvalPolicy: WithheldSchema,
    approvalsReviewer: WithheldSchema,
    cyberAccessProgram: WithheldSchema,
    environments: WithheldSchema,
    permissions: WithheldSchema,
    runtimeWorkspaceRoots: WithheldSchema,
    sandboxPolicy: WithheldSchema,
    toolOutput: WithheldSchema
  },
  CLOSED
)
export type TurnStartParams = Static<typeof TurnStartParamsSchema>

/** `expectedTurnId`: codex refuses when another turn runs by now. */
export const TurnSteerParamsSchema = Type.Object({ ...inputFields, expectedTurnId: IdSchema }, CLOSED)
export type TurnSteerParams = Static<typeof TurnSteerParamsSchema>

export const TurnInterruptParamsSchema = Type.Object({ threadId: IdSchema, turnId: IdSchema }, CLOSED)
export type TurnInterruptParams = Static<typeof TurnInterruptParamsSchema>
