import { Forbidden, NotFound } from '../../errors.ts'
import type { Approval, ApprovalResolved, RespondBody, SessionRule } from '../../schemas/approvals.ts'
import type { ApprovalEvent } from '../../schemas/server-messages.ts'
import { ApprovalLedger, type LedgerHandlers } from '../approvals/ledger.ts'
import type { PendingCall } from '../approvals/ledger-entry.ts'
import { type LeftoverHandlers, settleLeftovers } from '../approvals/leftovers.ts'
import { SessionRules } from '../approvals/session-rules.ts'
import type { RpcId } from '../codex/classify.ts'
import { roleAtLeast } from '../codex/methods.ts'
import type { ServerCall } from '../codex/rpc-peer.ts'
import { readServerRequest } from '../codex/server-requests.ts'
import type { Actor } from './actor.ts'
import { refuseDeep } from './codex-calls.ts'
import type { SessionOptions, SessionOwner } from './session-options.ts'
import type { ThreadTracker } from './thread-tracker.ts'

export interface ApprovalDeskOptions extends Pick<LedgerHandlers, 'onExpired' | 'onUnrecordable'> {
  session: SessionOwner
  services: Pick<SessionOptions, 'decide' | 'record' | 'recorded' | 'onApproval' | 'state' | 'stored'>
  /** Tells the clients. */
  emit(event: ApprovalEvent): void
}

/** A session's approvals: what codex asks comes in, what people decide goes back, and what an earlier gateway left ends. */
export class ApprovalDesk {
  readonly #options: ApprovalDeskOptions
  readonly #handlers: LedgerHandlers & LeftoverHandlers
  readonly #ledger: ApprovalLedger
  /** What this process has asked: codex asks again whenever a thread with something pending is resumed. */
  readonly #asked = new Set<RpcId>()

  constructor(options: ApprovalDeskOptions) {
    this.#options = options
    const { session, services, emit } = options
    const { state, stored } = services
    this.#handlers = {
      decide: (question) => services.decide(question, session),
      record: (settlement) => services.record(settlement, session),
      recorded: (approval) => services.recorded(approval, session),
      emit: (event) => {
        emit(event)
        services.onApproval(event, session)
      },
      keep: (approval) => state.saveApproval(approval),
      forget: (approvalId) => state.removeApproval(approvalId),
      onExpired: (approval, defaultAction) => options.onExpired(approval, defaultAction),
      onUnrecordable: (error) => options.onUnrecordable(error)
    }
    this.#ledger = new ApprovalLedger(this.#handlers, new SessionRules(state, stored.rules))
  }

  /** What waits for somebody, oldest first. */
  pending(): Approval[] {
    return this.#ledger.pending()
  }

  /** Something waits for somebody, or for its record. */
  get isBusy(): boolean {
    return this.#ledger.pendingCount > 0
  }

  /** The request of codex behind an approval that waits for somebody. */
  pendingCall(approvalId: string): PendingCall | undefined {
    return this.#ledger.pendingCall(approvalId)
  }

  /** See {@link ApprovalLedger.respond}; Forbidden for a role that may only look. */
  async respond(approvalId: string, body: RespondBody, actor: Actor): Promise<ApprovalResolved> {
    admit(actor)
    refuseDeep(body)
    return this.#ledger.respond(approvalId, body, { kind: actor.kind ?? 'user', id: actor.actorId })
  }

  /** See {@link ApprovalLedger.extend}; Forbidden for a role that may only look. */
  extend(approvalId: string, ms: number, actor: Actor): Approval {
    admit(actor)
    return this.#ledger.extend(approvalId, ms)
  }

  /** The standing acceptances of the session. */
  rules(): SessionRule[] {
    return this.#ledger.rules.list(Date.now())
  }

  /**
   * Ends a standing acceptance for good. Rejects with Forbidden for a role that may only look, NotFound when there is
   * none, StoreUnavailable when it is suspended but still stored.
   */
  async revokeRule(ruleId: string, actor: Actor): Promise<void> {
    admit(actor)
    if (!(await this.#ledger.rules.revoke(ruleId))) throw new NotFound('The session rule was')
  }

  /** A request of codex: settled at once, refused, or put before the policy and the clients. */
  onServerRequest(call: ServerCall, tracker: ThreadTracker): void {
    if (this.#asked.has(call.id)) return
    this.#asked.add(call.id)
    const request = readServerRequest(call.method, call.params, (threadId, itemId) =>
      tracker.fileChanges(threadId, itemId)
    )
    if (request.type === 'question') void this.#ledger.open(call, request.question)
    else if (request.type === 'settled') call.respond(request.result)
    else call.respondError(request.error)
  }

  /** codex no longer waits for the answer to this request. */
  onResolvedByCodex(requestId: RpcId): void {
    this.#ledger.onResolvedByCodex(requestId)
  }

  /** Ends what an earlier gateway left open when it was killed. Never rejects. */
  settleLeftovers(): Promise<void> {
    return settleLeftovers(this.#options.services.stored.pendingApprovals, this.#handlers)
  }

  /** The process is gone, or the gateway ends: nobody waits for these answers any more. */
  settleAll(kind: 'codex' | 'shutdown'): Promise<void> {
    this.#asked.clear()
    return this.#ledger.settleAll({ kind })
  }
}

function admit({ roles }: Actor): void {
  if (!roleAtLeast(roles, 'user')) throw new Forbidden('A viewer may not decide')
}
