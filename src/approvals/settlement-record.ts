import type { ApprovalResolved, Decider } from '../../schemas/approvals.ts'
import type { AuditPage, AuditQuery } from '../../schemas/audit.ts'
import type { StoredApproval } from './ledger-entry.ts'

const PAGE_RECORDS = 200

/** How the approval ended, if that is on record; see AuditLog.query for what it rejects with. */
export async function resolutionOnRecord(
  audit: { query(query: AuditQuery): Promise<AuditPage> },
  { approval: { approvalId, threadId }, openedAtMs }: StoredApproval,
  userId: string
): Promise<ApprovalResolved | undefined> {
  const filter = { userId, type: 'approval' as const, since: new Date(openedAtMs).toISOString(), limit: PAGE_RECORDS }
  const query: AuditQuery = threadId === null ? filter : { ...filter, threadId }
  let cursor: string | undefined
  do {
    const page = await audit.query(cursor === undefined ? query : { ...query, cursor })
    for (const record of page.records) {
      if (record.type !== 'approval' || record.approvalId !== approvalId) continue
      const { outcome, decision, actor } = record
      return { approvalId, outcome, decision, by: deciderOf(actor) }
    }
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return undefined
}

function deciderOf({ kind, id, rule }: { kind: string; id?: string; rule?: string }): Decider {
  return {
    kind: kind as Decider['kind'],
    ...(id === undefined ? {} : { id }),
    ...(rule === undefined ? {} : { rule })
  }
}
