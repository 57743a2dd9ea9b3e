import { type Static, Type } from 'typebox'
import { ApprovalAlreadyResolved, withDetails } from '../../errors.ts'
import {
  type Approval,
  type ApprovalResolved,
  ApprovalSchema,
  type Decider,
  type Decision,
  type DecisionDetails,
  type Outcome
} from '../../schemas/approvals.ts'
import { stringEnum } from '../../schemas/common.ts'
import type { RpcId } from '../codex/classify.ts'
import type { Question } from '../codex/server-requests.ts'
import type { JsonObject, JsonValue } from '../json.ts'

/** How long an approval waits, and what happens then. */
export type LedgerTimes = Static<typeof LedgerTimesSchema>

const LedgerTimesSchema = Type.Object({
  timeoutMs: Type.Number(),
  /** The longest an approval may wait, extensions included. */
  maxMs: Type.Number(),
  /** What happens when nobody answers. */
  defaultAction: stringEnum(['decline', 'cancel'])
})

/** What the policy says of a question. */
export type PolicyVerdict = Static<typeof PolicyVerdictSchema>

const PolicyVerdictSchema = Type.Object({
  verdict: stringEnum(['accept', 'ask', 'decline']),
  rule: Type.String(),
  reason: Type.String(),
  argv: Type.Optional(Type.Array(Type.Array(Type.String()))),
  policyVersion: Type.String(),
  times: LedgerTimesSchema
})

/** A pending approval as it outlives a gateway that is killed: what its audit record needs, to say that it was orphaned. */
export const StoredApprovalSchema = Type.Object({
  approval: ApprovalSchema,
  /** What codex sent. */
  params: Type.Record(Type.String(), Type.Unknown()),
  policy: PolicyVerdictSchema,
  openedAtMs: Type.Number()
})
export type StoredApproval = Static<typeof StoredApprovalSchema>

/** An approval that is about to take its end: the content of its audit record. */
export interface Settlement {
  approval: Approval
  question: Omit<Question, 'answer'>
  policy: PolicyVerdict
  outcome: Outcome
  decision: Decision | null
  by: Decider
  latencyMs: number
}

/** The request of codex behind an approval. Bound to its process: a later process uses the same ids again. */
export interface WaitingCall {
  readonly id: RpcId
  respond(result: JsonValue): void
}

/** What codex asked, in its own words. */
export interface PendingCall {
  id: RpcId
  method: string
  params: JsonObject
}

export const EntryStates = {
  DECIDING: 'deciding',
  PENDING: 'pending',
  /** Decided; the record is being made durable. */
  SETTLING: 'settling',
  RESOLVED: 'resolved'
} as const
export type EntryState = (typeof EntryStates)[keyof typeof EntryStates]

/** An approval from its question to its end. */
export interface Entry {
  approval: Approval
  question: Question
  policy: PolicyVerdict
  call: WaitingCall
  state: EntryState
  openedAtMs: number
  /** The store may have it. */
  isKept: boolean
  resolution: ApprovalResolved | undefined
  /** The end that is being put on record; rejects when it cannot be. */
  settling: Promise<void> | undefined
  /** What else ended it meanwhile; it counts when the record fails. */
  deferred: Ending | undefined
  timers: NodeJS.Timeout[]
}

export interface Ending {
  outcome: Outcome
  decision: Decision | null
  by: Decider
  details?: DecisionDetails
  /** What became of the session rule that was asked for. */
  rule?: Pick<ApprovalResolved, 'ruleId' | 'ruleError'>
}

export function isOpen({ state }: Entry): boolean {
  return state === EntryStates.PENDING || state === EntryStates.DECIDING
}

export function disarm(entry: Entry): void {
  for (const timer of entry.timers) clearTimeout(timer)
  entry.timers = []
}

export function alreadyResolved({ approval, resolution }: Entry): Error {
  const error = new ApprovalAlreadyResolved(approval.approvalId, resolution?.outcome ?? 'being settled')
  return resolution ? withDetails(error, { outcome: resolution.outcome, by: resolution.by }) : error
}
