import { type Static, Type } from 'typebox'
import { DecisionDetailsSchema, DecisionSchema, ExtendBodySchema } from './approvals.ts'
import { IdSchema } from './common.ts'

/** The envelope of every client message on /ws. */
export const ClientMessageSchema = Type.Object(
  {
    type: Type.String({ minLength: 1, maxLength: 128 }),
    payload: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    requestId: Type.Optional(Type.String({ maxLength: 256 }))
  },
  { additionalProperties: false }
)
export type ClientMessage = Static<typeof ClientMessageSchema>

export const ApprovalRespondSchema = Type.Object(
  { approvalId: IdSchema, decision: DecisionSchema, ...DecisionDetailsSchema.properties },
  { additionalProperties: false }
)
export type ApprovalRespond = Static<typeof ApprovalRespondSchema>

export const ApprovalExtendSchema = Type.Object(
  { approvalId: IdSchema, ...ExtendBodySchema.properties },
  { additionalProperties: false }
)
export type ApprovalExtend = Static<typeof ApprovalExtendSchema>

/** Where a client stands in the journal: it has everything up to and with `since` of `epoch`. */
export const SessionResumeSchema = Type.Object(
  {
    epoch: Type.String({ maxLength: 64 }),
    since: Type.Integer({ minimum: 0 }),
    compact: Type.Optional(Type.Boolean())
  },
  { additionalProperties: false }
)
export type SessionResume = Static<typeof SessionResumeSchema>

export const AuthRefreshSchema = Type.Object(
  { token: Type.String({ maxLength: 16_384 }) },
  { additionalProperties: false }
)
export type AuthRefresh = Static<typeof AuthRefreshSchema>

export const PingSchema = Type.Object({}, { additionalProperties: false })
