import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { ApprovalNotFound, describeError, InvalidDecision } from '../../errors.ts'
import type { Approval, ApprovalResolved, Decider, RespondBody } from '../../schemas/approvals.ts'
import type { ApprovalEvent } from '../../schemas/server-messages.ts'
import type { RpcId } from '../codex/classify.ts'
import type { Question } from '../codex/server-requests.ts'
import {
  alreadyResolved,
  disarm,
  type Ending,
  type Entry,
  EntryStates,
  isOpen,
  type LedgerTimes,
  type PendingCall,
  type PolicyVerdict,
  type Settlement,
  type StoredApproval,
  type WaitingCall
} from './ledger-entry.ts'
import type { SessionRules } from './session-rules.ts'

export interface LedgerHandlers {
  decide(question: Question): Promise<PolicyVerdict>
  /** Resolves when the record is durable. */
  record(settlement: Settlement): Promise<void>
  emit(event: ApprovalEvent): void
  /** Keeps a pending approval for the gateway after this one. Resolves when it is durable; a failure may be ignored. */
  keep(approval: StoredApproval): Promise<void>
  /** The approval has ended. */
  forget(approvalId: string): void
  /** Nobody answered in time; called when that is on record, before codex hears the default. Never rejects. */
  onExpired(approval: Approval, defaultAction: LedgerTimes['defaultAction']): Promise<void>
  /** A decision cannot be put on record and nobody is there to try again: codex must not be left waiting for it. */
  onUnrecordable(error: Error): void
}

/** Until the policy has spoken, and where it fails: ask, and decline if nobody answers. */
const UNDECIDED: PolicyVerdict = {
  verdict: 'ask',
  rule: 'undecided',
  reason: 'not decided yet',
  policyVersion: 'none',
  times: { timeoutMs: 300_000, maxMs: 3_600_000, defaultAction: 'decline' }
}
/** Resolved approvals that are remembered, so that a late answer learns who was first. */
const REMEMBERED = 1_000
const REMINDER_FRACTION = 0.8
/** A store that does not answer must not keep an approval from the people who can decide it. */
const KEEP_TIMEOUT_MS = 2_000

/**
 * The pending approvals of one session. Each ends exactly once: the first of an answer, the policy, the clock, codex
 * itself or the end of the process takes it (a synchronous compare-and-set), its record becomes durable, and only then
 * does codex hear the decision.
 */
export class ApprovalLedger {
  readonly rules: SessionRules
  readonly #handlers: LedgerHandlers
  readonly #entries = new Map<string, Entry>()

  constructor(handlers: LedgerHandlers, rules: SessionRules) {
    this.#handlers = handlers
    this.rules = rules
  }

  /** The approvals that wait for somebody, oldest first. */
  pending(): Approval[] {
    return [...this.#entries.values()]
      .filter(({ state }) => state === EntryStates.PENDING)
      .map(({ approval }) => approval)
  }

  get pendingCount(): number {
    let count = 0
    for (const { state } of this.#entries.values()) if (state !== EntryStates.RESOLVED) count++
    return count
  }

  /** What codex asked; undefined unless the approval waits for somebody. */
  pendingCall(approvalId: string): PendingCall | undefined {
    const entry = this.#entries.get(approvalId)
    if (entry?.state !== EntryStates.PENDING) return undefined
    const { call, question } = entry
    return { id: call.id, method: question.method, params: question.params }
  }

  /** Takes a question of codex: decides it by rule or policy, or puts it before the clients. Never rejects. */
  async open(call: WaitingCall, question: Question): Promise<void> {
    const nowMs = Date.now()
    const entry = this.#create(call, question, nowMs)
    const rule = this.rules.find(question, nowMs)
    entry.policy = await this.#handlers.decide(question).catch((error: Error) => ({
      ...UNDECIDED,
      reason: `the policy failed: ${error.message}`
    }))
    // The turn may have ended while the policy looked at the file system.
    if (entry.state !== EntryStates.DECIDING) return
    const { verdict } = entry.policy
    entry.approval.policy = { rule: entry.policy.rule, reason: entry.policy.reason }
    if (verdict === 'accept' || verdict === 'decline') {
      const by: Decider = { kind: 'policy', rule: entry.policy.rule }
      await this.#settleUnattended(entry, {
        outcome: verdict === 'accept' ? 'accepted' : 'declined',
        decision: verdict,
        by
      })
    } else if (rule) {
      const by: Decider = { kind: 'rule', id: rule.createdBy, rule: rule.ruleId }
      await this.#settleUnattended(entry, { outcome: 'accepted', decision: 'accept', by })
    } else {
      await this.#ask(entry)
    }
  }

  async #ask(entry: Entry): Promise<void> {
    const { approval, question, policy, openedAtMs } = entry
    approval.expiresAt = new Date(openedAtMs + policy.times.timeoutMs).toISOString()
    const kept = new AbortController()
    entry.isKept = true
    await Promise.race([
      this.#handlers.keep({ approval, params: question.params, policy, openedAtMs }).catch(() => {}),
      delay(KEEP_TIMEOUT_MS, undefined, { signal: kept.signal }).catch(() => {})
    ])
    kept.abort()
    // The turn may have ended meanwhile.
    if (entry.state !== EntryStates.DECIDING) return
    entry.state = EntryStates.PENDING
    this.#arm(entry)
    this.#handlers.emit({ type: 'approval/request', payload: approval })
  }

  /**
   * A person's (or webhook's) answer. Resolves when the record (and the session rule, for acceptForSession) is durable
   * and codex has been told. A rule that cannot be kept leaves a plain accept, and the resolution says why. Throws
   * ApprovalNotFound, ApprovalAlreadyResolved (details: who was first), InvalidDecision, or AuditUnavailable (the
   * approval then waits on).
   */
  async respond(approvalId: string, body: RespondBody, by: Decider): Promise<ApprovalResolved> {
    const entry = this.#entries.get(approvalId)
    if (!entry || entry.state === EntryStates.DECIDING) throw new ApprovalNotFound(approvalId)
    // An answer before this one may fail to be recorded; then this one is the first.
    while (entry.state === EntryStates.SETTLING) await entry.settling?.catch(() => {})
    if (entry.state !== EntryStates.PENDING) throw alreadyResolved(entry)
    const { decision, ...details } = body
    if (!entry.question.decisions.includes(decision)) {
      throw new InvalidDecision(decision, `it takes ${entry.question.decisions.join(', ')}`)
    }
    const accepted = decision === 'accept' || decision === 'acceptForSession'
    await this.#settle(entry, { outcome: accepted ? 'accepted' : 'declined', decision, by, details })
    return entry.resolution as ApprovalResolved
  }

  /** Gives the clients more time, within the maximum. Returns the approval with its new `expiresAt`. */
  extend(approvalId: string, ms: number): Approval {
    const entry = this.#entries.get(approvalId)
    if (!entry || entry.state === EntryStates.DECIDING) throw new ApprovalNotFound(approvalId)
    if (entry.state !== EntryStates.PENDING) throw alreadyResolved(entry)
    const latestMs = entry.openedAtMs + entry.policy.times.maxMs
    const expiresAtMs = Math.min(Date.parse(entry.approval.expiresAt) + ms, latestMs)
    entry.approval.expiresAt = new Date(expiresAtMs).toISOString()
    this.#arm(entry)
    this.#remind(entry)
    return entry.approval
  }

  /** codex no longer waits for this request: its turn ended or moved on. */
  onResolvedByCodex(rpcId: RpcId): void {
    for (const entry of this.#entries.values()) {
      if (entry.call.id === rpcId) {
        void this.#settleUnattended(entry, { outcome: 'superseded', decision: null, by: { kind: 'codex' } })
      }
    }
  }

  /** Nobody will ask codex again: the process is gone, or the gateway shuts down. Resolves when all is on record. */
  async settleAll(by: Decider): Promise<void> {
    const entries = [...this.#entries.values()]
    await Promise.all(
      entries.map((entry) => this.#settleUnattended(entry, { outcome: 'orphaned', decision: null, by }))
    )
  }

  #create(call: WaitingCall, question: Question, nowMs: number): Entry {
    const { params: _params, answer: _answer, decisions, ...shown } = question
    const approval = {
      approvalId: `appr_${randomBytes(12).toString('base64url')}`,
      ...shown,
      policy: { rule: UNDECIDED.rule, reason: UNDECIDED.reason },
      decisions: [...decisions],
      expiresAt: new Date(nowMs + UNDECIDED.times.timeoutMs).toISOString()
    }
    const state = EntryStates.DECIDING
    const entry = { approval, question, policy: UNDECIDED, call, openedAtMs: nowMs, isKept: false, timers: [] }
    const created: Entry = { ...entry, state, resolution: undefined, settling: undefined, deferred: undefined }
    this.#entries.set(approval.approvalId, created)
    return created
  }

  #arm(entry: Entry): void {
    disarm(entry)
    const leftMs = Date.parse(entry.approval.expiresAt) - Date.now()
    entry.timers = [
      setTimeout(() => this.#remind(entry), leftMs * REMINDER_FRACTION),
      setTimeout(() => {
        const decision = entry.policy.times.defaultAction
        void this.#settleUnattended(entry, { outcome: 'expired', decision, by: { kind: 'timeout' } })
      }, leftMs)
    ]
  }

  #remind(entry: Entry): void {
    const { approvalId, expiresAt } = entry.approval
    if (entry.state !== EntryStates.PENDING) return
    this.#handlers.emit({ type: 'approval/reminder', payload: { approvalId, expiresAt } })
  }

  /** Settles where nobody waits to hear of a failure; a decision that cannot be recorded must not take effect. */
  async #settleUnattended(entry: Entry, ending: Ending): Promise<void> {
    // The record of a decision may fail, and what comes now does not come again.
    if (entry.state === EntryStates.SETTLING && entry.resolution?.decision !== null) entry.deferred = ending
    if (!isOpen(entry)) return
    try {
      await this.#settle(entry, ending)
    } catch (error) {
      // Without a decision nothing takes effect, so the approval may end unrecorded; it must not wait for ever.
      if (ending.decision === null) this.#finish(entry, ending)
      this.#handlers.onUnrecordable(error as Error)
    }
  }

  #settle(entry: Entry, ending: Ending): Promise<void> {
    const before = entry.state
    const { outcome, decision, by } = ending
    entry.state = EntryStates.SETTLING
    entry.resolution = { approvalId: entry.approval.approvalId, outcome, decision, by }
    entry.settling = this.#recordAndFinish(entry, ending).catch((error) => {
      entry.state = before
      entry.resolution = undefined
      const { deferred } = entry
      entry.deferred = undefined
      if (deferred) void this.#settleUnattended(entry, deferred)
      throw error
    })
    return entry.settling
  }

  async #recordAndFinish(entry: Entry, ending: Ending): Promise<void> {
    const { approval, question, policy } = entry
    const { outcome, decision, by } = ending
    const latencyMs = Date.now() - entry.openedAtMs
    await this.#handlers.record({ approval, question, policy, outcome, decision, by, latencyMs })
    if (outcome === 'expired') await this.#handlers.onExpired(approval, policy.times.defaultAction)
    this.#finish(entry, decision === 'acceptForSession' ? await this.#withRule(entry, ending) : ending)
  }

  /** After the record: a rule without one would accept what nobody is known to have accepted. */
  async #withRule({ question }: Entry, ending: Ending): Promise<Ending> {
    try {
      const rule = await this.rules.add(question, ending.by.id ?? ending.by.kind, Date.now())
      return rule === undefined ? ending : { ...ending, rule: { ruleId: rule.ruleId } }
    } catch (error) {
      return { ...ending, decision: 'accept', rule: { ruleError: describeError(error).payload } }
    }
  }

  #finish(entry: Entry, { outcome, decision, by, details = {}, rule }: Ending): void {
    const { approvalId } = entry.approval
    disarm(entry)
    entry.state = EntryStates.RESOLVED
    entry.resolution = { approvalId, outcome, decision, by, ...rule }
    if (decision !== null) entry.call.respond(entry.question.answer(decision, details))
    this.#handlers.emit({ type: 'approval/resolved', payload: entry.resolution })
    if (entry.isKept) this.#handlers.forget(approvalId)
    this.#forgetOldest()
  }

  #forgetOldest(): void {
    if (this.#entries.size <= REMEMBERED) return
    for (const [approvalId, { state }] of this.#entries) {
      if (state !== EntryStates.RESOLVED) continue
      this.#entries.delete(approvalId)
      return
    }
  }
}
