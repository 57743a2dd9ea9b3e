import type { ApprovalResolved, Decider } from '../../schemas/approvals.ts'
import type { JsonObject } from '../json.ts'
import type { LedgerHandlers } from './ledger.ts'
import type { Settlement, StoredApproval } from './ledger-entry.ts'

export interface LeftoverHandlers extends Pick<LedgerHandlers, 'record' | 'emit' | 'forget'> {
  /** How the approval ended, if that is on record: the gateway may have been killed between record and deletion. */
  recorded(approval: StoredApproval): Promise<ApprovalResolved | undefined>
  /** It stays where it is, for the next start. */
  onUnrecordable(error: Error): void
}

const BY: Decider = { kind: 'shutdown' }

/**
 * Ends the approvals that waited when an earlier gateway was killed: each on record first, then told, then forgotten.
 * Never rejects.
 */
export async function settleLeftovers(leftovers: readonly StoredApproval[], handlers: LeftoverHandlers): Promise<void> {
  for (const leftover of leftovers) {
    try {
      const resolution = (await handlers.recorded(leftover)) ?? (await orphan(leftover, handlers))
      handlers.emit({ type: 'approval/resolved', payload: resolution })
      handlers.forget(leftover.approval.approvalId)
    } catch (error) {
      handlers.onUnrecordable(error as Error)
    }
  }
}

async function orphan(leftover: StoredApproval, { record }: LeftoverHandlers): Promise<ApprovalResolved> {
  const { approval, policy, openedAtMs } = leftover
  const { approvalId } = approval
  const outcome = 'orphaned'
  const latencyMs = Math.max(0, Date.now() - openedAtMs)
  await record({ approval, question: questionOf(leftover), policy, outcome, decision: null, by: BY, latencyMs })
  return { approvalId, outcome, decision: null, by: BY }
}

/** An approval shows all of its question but what codex sent. */
function questionOf({ approval, params }: StoredApproval): Settlement['question'] {
  const { approvalId: _id, policy: _policy, expiresAt: _at, ...shown } = approval
  return { ...(shown as Omit<Settlement['question'], 'params'>), params: params as JsonObject }
}
