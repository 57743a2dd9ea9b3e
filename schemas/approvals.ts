import { type Static, Type } from 'typebox'
import { ErrorPayloadSchema, IdSchema, stringEnum } from './common.ts'

/** What kind of question codex asks. */
export const ApprovalKindSchema = stringEnum([
  'command',
  'writeStdin',
  'network',
  'fileChange',
  'permissions',
  'userInput',
  'elicitation',
  'mcpToolCall',
  'dynamicTool'
])
export type ApprovalKind = Static<typeof ApprovalKindSchema>

/** What a person may answer. */
export const DecisionSchema = stringEnum(['accept', 'acceptForSession', 'decline', 'cancel'])
export type Decision = Static<typeof DecisionSchema>

export const OutcomeSchema = stringEnum(['accepted', 'declined', 'expired', 'superseded', 'orphaned'])
export type Outcome = Static<typeof OutcomeSchema>

/** Who or what decided. `id` names the user or webhook, `rule` the policy rule. */
export const DeciderSchema = Type.Object({
  kind: stringEnum(['user', 'policy', 'rule', 'timeout', 'webhook', 'codex', 'shutdown']),
  id: Type.Optional(Type.String()),
  rule: Type.Optional(Type.String())
})
export type Decider = Static<typeof DeciderSchema>

export const FileChangeSchema = Type.Object({
  path: Type.String(),
  kind: stringEnum(['add', 'delete', 'update']),
  movePath: Type.Optional(Type.String()),
  diff: Type.String()
})
export type FileChange = Static<typeof FileChangeSchema>

/** The details that a decision may carry, by kind: a subset of what was asked for, answers, form content, tool output. */
export const DecisionDetailsSchema = Type.Object({
  permissions: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  answers: Type.Optional(
    Type.Record(
      Type.String({ maxLength: 256 }),
      Type.Object({ answers: Type.Array(Type.String(), { maxItems: 64 }) }),
      {
        maxProperties: 64
      }
    )
  ),
  content: Type.Optional(Type.Unknown()),
  contentItems: Type.Optional(Type.Array(Type.Record(Type.String(), Type.Unknown()), { maxItems: 64 })),
  /** False: the tool ran and failed, and its output says how. */
  success: Type.Optional(Type.Boolean())
})
export type DecisionDetails = Static<typeof DecisionDetailsSchema>

/** The body of a decision, on every door. */
export const RespondBodySchema = Type.Object(
  { decision: DecisionSchema, ...DecisionDetailsSchema.properties },
  { additionalProperties: false }
)
export type RespondBody = Static<typeof RespondBodySchema>

/** How much longer an approval may wait, in milliseconds. */
export const ExtendBodySchema = Type.Object({ ms: Type.Integer({ minimum: 1_000 }) }, { additionalProperties: false })

/** A question of codex that waits for a decision, as clients see it. */
export const ApprovalSchema = Type.Object(
  {
    approvalId: IdSchema,
    kind: ApprovalKindSchema,
    /** The app-server method that asked. */
    method: Type.String(),
    threadId: Type.Union([IdSchema, Type.Null()]),
    turnId: Type.Union([IdSchema, Type.Null()]),
    itemId: Type.Union([IdSchema, Type.Null()]),
    command: Type.Optional(Type.String()),
    cwd: Type.Optional(Type.String()),
    /** network: what the command wants to reach. */
    network: Type.Optional(Type.Object({ host: Type.String(), protocol: Type.String() })),
    changes: Type.Optional(Type.Array(FileChangeSchema)),
    permissions: Type.Optional(Type.Unknown()),
    questions: Type.Optional(Type.Unknown()),
    elicitation: Type.Optional(Type.Unknown()),
    tool: Type.Optional(Type.Unknown()),
    reason: Type.Optional(Type.String()),
    policy: Type.Object({ rule: Type.String(), reason: Type.String() }),
    decisions: Type.Array(DecisionSchema),
    /** ISO 8601; at this moment the default action decides. */
    expiresAt: Type.String({ format: 'date-time' })
  },
  { $id: 'Approval' }
)
export type Approval = Static<typeof ApprovalSchema>

/**
 * How an approval ended. `decision` is what codex heard; null when it heard nothing. After `acceptForSession`, `ruleId`
 * is the standing acceptance that was made; where it could not be kept, the decision is `accept` and `ruleError` says why.
 */
export const ApprovalResolvedSchema = Type.Object(
  {
    approvalId: IdSchema,
    outcome: OutcomeSchema,
    decision: Type.Union([DecisionSchema, Type.Null()]),
    by: DeciderSchema,
    ruleId: Type.Optional(IdSchema),
    ruleError: Type.Optional(ErrorPayloadSchema)
  },
  { $id: 'ApprovalResolved' }
)
export type ApprovalResolved = Static<typeof ApprovalResolvedSchema>

export const ApprovalListSchema = Type.Object({ approvals: Type.Array(ApprovalSchema) }, { $id: 'ApprovalList' })

/** A standing acceptance that somebody gave with `acceptForSession`: of exactly this, in this thread. */
export const SessionRuleSchema = Type.Object(
  {
    ruleId: IdSchema,
    threadId: IdSchema,
    kind: ApprovalKindSchema,
    subject: Type.String({ description: 'The exact command line, tool call or list of paths' }),
    cwd: Type.Union([Type.String(), Type.Null()]),
    createdBy: Type.String(),
    expiresAt: Type.String({ format: 'date-time' })
  },
  { $id: 'SessionRule' }
)
export type SessionRule = Static<typeof SessionRuleSchema>

export const SessionRuleListSchema = Type.Object({ rules: Type.Array(SessionRuleSchema) }, { $id: 'SessionRuleList' })
