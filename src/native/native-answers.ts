import type { Approval, Decision, RespondBody } from '../../schemas/approvals.ts'
import { asObject, asText, isJsonObject, type JsonObject, type JsonValue } from '../json.ts'

/** Any answer that cannot be read is a refusal, as it is to codex. */
const DECLINED: RespondBody = { decision: 'decline' }
/** What a native client may say, in the gateway's words. Amendments and grants for longer become its own session rule. */
const DECISIONS: Record<string, Decision> = {
  accept: 'accept',
  acceptForSession: 'acceptForSession',
  acceptWithExecpolicyAmendment: 'acceptForSession',
  decline: 'decline',
  cancel: 'cancel'
}

/**
 * A native client's answer to codex's request as a decision of the gateway. What codex would keep, an amendment of its
 * rules or a grant for the session, never reaches it.
 *
 * @param result undefined when the client answered with an error
 */
export function readAnswer(approval: Pick<Approval, 'kind' | 'decisions'>, result: JsonValue | undefined): RespondBody {
  const body = isJsonObject(result) ? readResult(approval.kind, result) : DECLINED
  const { decision } = body
  if (approval.decisions.includes(decision)) return body
  if (decision === 'acceptForSession') return { ...body, decision: 'accept' }
  return DECLINED
}

function readResult(kind: Approval['kind'], result: JsonObject): RespondBody {
  switch (kind) {
    case 'command':
    case 'writeStdin':
    case 'network':
    case 'fileChange':
      return { decision: readDecision(result.decision) }
    case 'permissions': {
      const permissions = asObject(result.permissions)
      return Object.keys(permissions).length > 0 ? { decision: 'accept', permissions } : DECLINED
    }
    case 'userInput':
      return isJsonObject(result.answers) ? { decision: 'accept', answers: readAnswers(result.answers) } : DECLINED
    case 'elicitation':
    case 'mcpToolCall': {
      const decision = readDecision(result.action)
      if (decision !== 'accept') return { decision }
      const lasts = typeof asObject(result._meta).persist === 'string'
      const content = result.content ?? null
      return { decision: lasts ? 'acceptForSession' : 'accept', ...(content === null ? {} : { content }) }
    }
    case 'dynamicTool': {
      if (!Array.isArray(result.contentItems) || typeof result.success !== 'boolean') return DECLINED
      return {
        decision: 'accept',
        contentItems: result.contentItems.filter(isJsonObject),
        ...(result.success ? {} : { success: false })
      }
    }
  }
}

/** A word, or an object of one field that is named as the decision. */
function readDecision(value: JsonValue | undefined): Decision {
  if (!isJsonObject(value)) return DECISIONS[asText(value) ?? ''] ?? 'decline'
  const [[name, amendment] = ['', null]] = Object.entries(value)
  if (name === 'applyNetworkPolicyAmendment') {
    const { action } = asObject(asObject(amendment).network_policy_amendment)
    return action === 'allow' ? 'acceptForSession' : 'decline'
  }
  return DECISIONS[name] ?? 'decline'
}

function readAnswers(answers: JsonObject): NonNullable<RespondBody['answers']> {
  const entries = Object.entries(answers).map(([id, given]) => {
    const texts = asObject(given).answers
    return [id, { answers: Array.isArray(texts) ? texts.filter((text) => typeof text === 'string') : [] }] as const
  })
  return Object.fromEntries(entries)
}
