import { type Static, Type } from 'typebox'
import { ApprovalKindSchema, DeciderSchema, DecisionSchema, OutcomeSchema } from './approvals.ts'
import { IdSchema, stringEnum, UserIdSchema } from './common.ts'

/** What a decision token may decide: never a standing acceptance. */
export const TokenDecisionSchema = stringEnum(['accept', 'decline', 'cancel'])
export type TokenDecision = Static<typeof TokenDecisionSchema>

export const WebhookEventTypeSchema = stringEnum([
  'approval.requested',
  'approval.reminder',
  'approval.resolved',
  'approval.expired'
])
export type WebhookEventType = Static<typeof WebhookEventTypeSchema>

const MomentSchema = Type.String({ format: 'date-time' })

/** What of an approval leaves the gateway: no diffs, file contents, answers or environment; texts are redacted. */
export const WebhookApprovalSchema = Type.Object({
  approvalId: IdSchema,
  kind: ApprovalKindSchema,
  threadId: Type.Union([IdSchema, Type.Null()]),
  turnId: Type.Union([IdSchema, Type.Null()]),
  command: Type.Optional(Type.String()),
  cwd: Type.Optional(Type.String()),
  /** Paths and move targets of a file change. */
  paths: Type.Optional(Type.Array(Type.String())),
  /** What it is about beside command and paths: permissions, a server and its tool. */
  subject: Type.Optional(Type.String()),
  reason: Type.Optional(Type.String()),
  policy: Type.Object({ rule: Type.String(), reason: Type.String() }),
  /** What the user's own clients may answer. */
  decisions: Type.Array(DecisionSchema),
  expiresAt: MomentSchema
})
export type WebhookApproval = Static<typeof WebhookApprovalSchema>

/** The body of a delivery. A delivery that is tried again has the same `id`. */
export const WebhookEventSchema = Type.Object(
  {
    id: IdSchema,
    type: WebhookEventTypeSchema,
    at: MomentSchema,
    userId: UserIdSchema,
    approval: WebhookApprovalSchema,
    /** How it ended (resolved, expired). */
    outcome: Type.Optional(OutcomeSchema),
    by: Type.Optional(DeciderSchema),
    /** With what the receiver can decide (requested, reminder). `url` is there when PUBLIC_URL is set. */
    decide: Type.Optional(
      Type.Object({
        url: Type.Optional(Type.String()),
        token: Type.String(),
        decisions: Type.Array(TokenDecisionSchema),
        expiresAt: MomentSchema
      })
    )
  },
  { $id: 'WebhookEvent' }
)
export type WebhookEvent = Static<typeof WebhookEventSchema>

const DecisionTokenSchema = Type.String({ minLength: 1, maxLength: 512 })

/** The body of `POST /api/approvals/decide`. */
export const DecideBodySchema = Type.Object(
  {
    decision: TokenDecisionSchema,
    token: Type.Optional(
      Type.String({ minLength: 1, maxLength: 512, description: 'May stand in `Authorization: Bearer` instead' })
    )
  },
  { additionalProperties: false }
)

/** What the buttons of the confirmation page send. */
export const DecideFormSchema = Type.Object(
  { decision: TokenDecisionSchema, token: DecisionTokenSchema },
  { additionalProperties: false }
)

export const DecideQuerySchema = Type.Object({ token: DecisionTokenSchema })
