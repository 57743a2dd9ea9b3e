import type { Approval } from '../../schemas/approvals.ts'
import type { TokenDecision, WebhookApproval } from '../../schemas/webhooks.ts'
import { MAX_REDACT_CHARS, redact } from '../audit/redact.ts'
import { asObject, asText, type JsonObject, type JsonValue } from '../json.ts'

const MAX_PATHS = 200
const MAX_PATH_CHARS = 1_024
const MAX_REMARK_CHARS = 2_000
const CUT = '[CUT]'

/** What a webhook shows of an approval: redacted and bounded; no diffs, contents, questions or tool arguments. */
export function showApproval(approval: Approval): WebhookApproval {
  const { approvalId, kind, threadId, turnId, command, cwd, reason, policy, decisions, expiresAt } = approval
  const paths = pathsOf(approval)
  const subject = subjectOf(approval)
  return {
    approvalId,
    kind,
    threadId,
    turnId,
    ...(command === undefined ? {} : { command: redact(command) }),
    ...(cwd === undefined ? {} : { cwd: show(cwd, MAX_PATH_CHARS) }),
    ...(paths === undefined ? {} : { paths: paths.slice(0, MAX_PATHS).map((path) => show(path, MAX_PATH_CHARS)) }),
    ...(subject === undefined ? {} : { subject: redact(subject) }),
    ...(reason === undefined ? {} : { reason: show(reason, MAX_REMARK_CHARS) }),
    policy: { rule: policy.rule, reason: show(policy.reason, MAX_REMARK_CHARS) },
    decisions: [...decisions],
    expiresAt
  }
}

/**
 * What a token may decide of it. Accepting is among it only where {@link showApproval} shows all that is accepted:
 * nobody accepts the end of a command that was cut off, or answers a question that was not shown.
 */
export function decisionsByToken(approval: Approval): TokenDecision[] {
  const decisions: TokenDecision[] = isSubjectShown(approval) ? ['accept', 'decline', 'cancel'] : ['decline', 'cancel']
  return decisions.filter((decision) => approval.decisions.includes(decision))
}

function isSubjectShown(approval: Approval): boolean {
  const paths = pathsOf(approval) ?? []
  const isWhole =
    (approval.command?.length ?? 0) <= MAX_REDACT_CHARS &&
    (subjectOf(approval)?.length ?? 0) <= MAX_REDACT_CHARS &&
    paths.length <= MAX_PATHS &&
    paths.every((path) => path.length <= MAX_PATH_CHARS)
  return isWhole && hasSubject(approval, paths)
}

function hasSubject(approval: Approval, paths: readonly string[]): boolean {
  switch (approval.kind) {
    case 'command':
    case 'writeStdin':
      return approval.command !== undefined
    case 'fileChange':
      return paths.length > 0
    case 'permissions':
      return approval.permissions !== undefined
    case 'mcpToolCall':
      return toolName(approval) !== undefined
    default:
      return false
  }
}

function pathsOf({ changes }: Approval): string[] | undefined {
  return changes?.flatMap(({ path, movePath }) => (movePath === undefined ? [path] : [path, movePath]))
}

/** Names only: arguments of tools, questions and forms may hold anything. */
function subjectOf(approval: Approval): string | undefined {
  if (approval.permissions !== undefined) return JSON.stringify(approval.permissions)
  switch (approval.kind) {
    case 'mcpToolCall':
      return `${asText(elicitationOf(approval).serverName) ?? ''} ${toolName(approval) ?? ''}`.trim()
    case 'elicitation':
      return asText(elicitationOf(approval).serverName)
    case 'dynamicTool':
      return asText(asObject(approval.tool as JsonValue | undefined).tool)
    default:
      return undefined
  }
}

function elicitationOf({ elicitation }: Approval): JsonObject {
  return asObject(elicitation as JsonValue | undefined)
}

function toolName(approval: Approval): string | undefined {
  return asText(asObject(elicitationOf(approval)._meta).tool_name)
}

/** Redacts, then cuts: half of a secret would no longer look like one. */
function show(text: string, maxChars: number): string {
  const redacted = redact(text)
  return redacted.length <= maxChars ? redacted : `${redacted.slice(0, maxChars)}${CUT}`
}
