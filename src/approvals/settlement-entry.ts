import { createHash } from 'node:crypto'
import type { AuditEntry } from '../../schemas/audit.ts'
import { asObject, asText } from '../json.ts'
import type { Settlement } from './ledger-entry.ts'

/** The audit entry of a settled approval. Texts are raw: the log redacts, hashes and clips them. */
export function settlementEntry(settlement: Settlement, userId: string): AuditEntry {
  const { approval, question, policy, outcome, decision, by, latencyMs } = settlement
  const { changes } = question
  const subject = subjectOf(settlement)
  return {
    type: 'approval',
    userId,
    actor: by,
    approvalId: approval.approvalId,
    kind: approval.kind,
    method: approval.method,
    threadId: approval.threadId,
    turnId: approval.turnId,
    itemId: approval.itemId,
    ...(policy.argv === undefined ? {} : { argv: policy.argv.flat() }),
    ...(question.command === undefined ? {} : { command: question.command }),
    ...(question.cwd === undefined ? {} : { cwd: question.cwd }),
    ...(changes === undefined
      ? {}
      : { paths: changes.flatMap(({ path, movePath }) => [path, ...(movePath ? [movePath] : [])]) }),
    ...(changes === undefined ? {} : { diffSha256: sha256(JSON.stringify(changes)) }),
    ...(subject === undefined ? {} : { subject }),
    verdict: { verdict: policy.verdict, rule: policy.rule, reason: policy.reason },
    policyVersion: policy.policyVersion,
    outcome,
    decision,
    latencyMs
  }
}

/** What kinds without a command or files are about. Answers to questions are never in it: they may be secret. */
function subjectOf({ question }: Settlement): string | undefined {
  const { params } = question
  switch (question.kind) {
    case 'network':
      return asText(asObject(params.networkApprovalContext).host)
    case 'permissions':
      return JSON.stringify(question.permissions)
    case 'elicitation':
      return asText(params.serverName)
    case 'mcpToolCall':
      return `${asText(params.serverName) ?? ''} ${asText(asObject(params._meta).tool_name) ?? ''}`.trim()
    case 'dynamicTool':
      return asText(params.tool)
    default:
      return undefined
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
