import { type Static, Type } from 'typebox'
import { ApprovalResolvedSchema, ApprovalSchema } from './approvals.ts'
import { ErrorPayloadSchema, IdSchema, stringEnum } from './common.ts'
import { UsageLimitSchema } from './usage.ts'

const Seq = Type.Integer({ minimum: 0 })

export const SessionReadySchema = Type.Object({
  type: Type.Literal('session/ready'),
  payload: Type.Object({
    userId: Type.String(),
    sessionId: IdSchema,
    epoch: Type.String(),
    /** The newest event's number; 0 when there was none yet. */
    seq: Seq,
    pendingApprovals: Type.Array(ApprovalSchema)
  })
})

export const ResponseSchema = Type.Object({
  type: Type.Literal('response'),
  requestId: Type.Optional(Type.String()),
  payload: Type.Record(Type.String(), Type.Unknown()),
  /** Known fields that the role may not set and that codex did not get, as JSON pointers. */
  dropped: Type.Optional(Type.Array(Type.String()))
})

export const ErrorMessageSchema = Type.Object({
  type: Type.Literal('error'),
  requestId: Type.Optional(Type.String()),
  payload: ErrorPayloadSchema
})

export const EventSchema = Type.Object({
  type: Type.Literal('event'),
  seq: Seq,
  payload: Type.Object({ method: Type.String(), params: Type.Unknown() })
})

export const ApprovalRequestMessageSchema = Type.Object({
  type: Type.Literal('approval/request'),
  seq: Seq,
  payload: ApprovalSchema
})

export const ApprovalReminderSchema = Type.Object({
  type: Type.Literal('approval/reminder'),
  seq: Seq,
  payload: Type.Object({ approvalId: IdSchema, expiresAt: Type.String({ format: 'date-time' }) })
})

export const ApprovalResolvedMessageSchema = Type.Object({
  type: Type.Literal('approval/resolved'),
  seq: Seq,
  payload: ApprovalResolvedSchema
})

/** What happens to an approval, before it has a number in a journal. */
export type ApprovalEvent =
  | Pick<Static<typeof ApprovalRequestMessageSchema>, 'type' | 'payload'>
  | Pick<Static<typeof ApprovalReminderSchema>, 'type' | 'payload'>
  | Pick<Static<typeof ApprovalResolvedMessageSchema>, 'type' | 'payload'>

/**
 * `cold`: no process (the next request starts one); `crashed`: it ended by itself (the same); `failed`: it does not
 * start, or keeps ending, `reason` says why; `closing`: the gateway ends, nothing new starts.
 */
export const SessionStateNameSchema = stringEnum(['cold', 'ready', 'crashed', 'failed', 'closing'])
export type SessionStateName = Static<typeof SessionStateNameSchema>

export const SessionStateSchema = Type.Object({
  type: Type.Literal('session/state'),
  seq: Seq,
  payload: Type.Object({
    state: SessionStateNameSchema,
    reason: Type.Optional(Type.String()),
    /** With `closing`: how long to wait, once the connection has been closed, before coming back. */
    retryAfterMs: Type.Optional(Type.Integer({ minimum: 0 }))
  })
})
export type SessionState = Static<typeof SessionStateSchema>['payload']

/** A budget is nearly, or wholly, used up. */
export const UsageLimitMessageSchema = Type.Object({
  type: Type.Literal('usage/limit'),
  seq: Seq,
  payload: UsageLimitSchema
})

/** Events `from` … `to` are gone; a session/snapshot follows. */
export const SessionGapSchema = Type.Object({
  type: Type.Literal('session/gap'),
  payload: Type.Object({ epoch: Type.String(), from: Seq, to: Seq })
})

export const ThreadSummarySchema = Type.Object({
  threadId: IdSchema,
  /** Its name, else the beginning of its first message. */
  title: Type.Union([Type.String(), Type.Null()]),
  status: Type.String(),
  /** The turn that runs. */
  turnId: Type.Optional(IdSchema),
  /** The turn that ended last, and how: completed, interrupted or failed. */
  lastTurn: Type.Optional(Type.Object({ turnId: IdSchema, status: Type.String() }))
})
export type ThreadSummary = Static<typeof ThreadSummarySchema>

export const SessionSnapshotSchema = Type.Object({
  type: Type.Literal('session/snapshot'),
  payload: Type.Object({
    epoch: Type.String(),
    seq: Seq,
    threads: Type.Array(ThreadSummarySchema),
    pendingApprovals: Type.Array(ApprovalSchema)
  })
})

export const PongSchema = Type.Object({ type: Type.Literal('pong'), requestId: Type.Optional(Type.String()) })

/** Everything the gateway sends on /ws. */
export const ServerMessageSchema = Type.Union([
  SessionReadySchema,
  ResponseSchema,
  ErrorMessageSchema,
  EventSchema,
  ApprovalRequestMessageSchema,
  ApprovalReminderSchema,
  ApprovalResolvedMessageSchema,
  SessionStateSchema,
  UsageLimitMessageSchema,
  SessionGapSchema,
  SessionSnapshotSchema,
  PongSchema
])
export type ServerMessage = Static<typeof ServerMessageSchema>
