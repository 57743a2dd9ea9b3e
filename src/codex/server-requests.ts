import type { ApprovalKind, Decision, DecisionDetails, FileChange } from '../../schemas/approvals.ts'
import { asObject, asText, isJsonObject, type JsonObject, type JsonValue } from '../json.ts'
import type { RpcErrorObject } from './classify.ts'

/** A server request that waits for a decision, in the gateway's words. */
export interface Question {
  kind: ApprovalKind
  method: string
  threadId: string | null
  turnId: string | null
  itemId: string | null
  command?: string
  cwd?: string
  network?: { host: string; protocol: string }
  changes?: FileChange[]
  permissions?: JsonValue
  questions?: JsonValue
  elicitation?: JsonValue
  tool?: JsonValue
  reason?: string
  /** What codex sent, for the policy's gate conditions. */
  params: JsonObject
  decisions: readonly Decision[]
  /** The result that tells codex the decision. Amendments and persist flags never appear in it. */
  answer(decision: Decision, details: DecisionDetails): JsonValue
}

/** What to do with a server request. `settled`: answered at once, because nobody needs to be asked. */
export type ServerRequest =
  | { type: 'question'; question: Question }
  | { type: 'settled'; result: JsonValue }
  | { type: 'refused'; error: RpcErrorObject }

const REFUSED: ServerRequest = { type: 'refused', error: { code: -32601, message: 'Not supported by this client' } }
const LEGACY_REFUSAL: JsonValue = { decision: { denied: { rejection: 'declined by gateway' } } }

const ONCE = ['accept', 'decline', 'cancel'] as const
const ONCE_OR_SESSION = ['accept', 'acceptForSession', 'decline', 'cancel'] as const
const YES_OR_NO = ['accept', 'decline'] as const

/**
 * Reads a request of codex. Every method has an answer, also those nobody can decide: a request without one would
 * leave its turn waiting for ever. Source of the shapes: PROTOCOL facts of codex 0.169, section 5.
 *
 * @param fileChanges looks up what a file-change item announced; its approval request names no paths
 */
export function readServerRequest(
  method: string,
  rawParams: JsonValue | undefined,
  fileChanges: (threadId: string, itemId: string) => FileChange[] | undefined
): ServerRequest {
  const params = asObject(rawParams)
  switch (method) {
    case 'item/commandExecution/requestApproval':
      return ask(commandQuestion(method, params))
    case 'item/fileChange/requestApproval':
      return ask({
        ...base(method, params, 'fileChange'),
        changes: fileChanges(asText(params.threadId) ?? '', asText(params.itemId) ?? '') ?? [],
        decisions: ONCE_OR_SESSION,
        answer: plainDecision
      })
    case 'item/permissions/requestApproval':
      return ask(permissionsQuestion(method, params))
    case 'item/tool/requestUserInput':
      return ask({
        ...base(method, params, 'userInput'),
        questions: params.questions ?? [],
        decisions: YES_OR_NO,
        answer: (decision, { answers }) => ({ answers: decision === 'accept' ? ((answers ?? {}) as JsonObject) : {} })
      })
    case 'mcpServer/elicitation/request':
      return ask(elicitationQuestion(method, params))
    case 'item/tool/call':
      return ask(toolQuestion(method, params))
    case 'currentTime/read':
      return { type: 'settled', result: { currentTimeAt: Math.floor(Date.now() / 1000) } }
    case 'applyPatchApproval':
    case 'execCommandApproval':
      return { type: 'settled', result: LEGACY_REFUSAL }
    default:
      return REFUSED
  }
}

function ask(question: Question): ServerRequest {
  return { type: 'question', question }
}

function base(method: string, params: JsonObject, kind: ApprovalKind) {
  const reason = asText(params.reason)
  const cwd = asText(params.cwd)
  return {
    kind,
    method,
    threadId: asText(params.threadId) ?? null,
    turnId: asText(params.turnId) ?? null,
    itemId: asText(params.itemId) ?? null,
    ...(reason === undefined ? {} : { reason }),
    ...(cwd === undefined ? {} : { cwd }),
    params
  }
}

function commandQuestion(method: string, params: JsonObject): Question {
  const command = asText(params.command)
  const { networkApprovalContext: network } = params
  const kind = isJsonObject(network) ? 'network' : params.kind === 'writeStdin' ? 'writeStdin' : 'command'
  return {
    ...base(method, params, kind),
    ...(command === undefined ? {} : { command }),
    ...(isJsonObject(network)
      ? { network: { host: asText(network.host) ?? '', protocol: asText(network.protocol) ?? '' } }
      : {}),
    ...(isJsonObject(params.additionalPermissions) ? { permissions: params.additionalPermissions } : {}),
    decisions: kind === 'command' ? ONCE_OR_SESSION : ONCE,
    answer: plainDecision
  }
}

/** `acceptForSession` stays here: codex would silence later requests, and they would miss the policy and the record. */
function plainDecision(decision: Decision): JsonValue {
  return { decision: decision === 'acceptForSession' ? 'accept' : decision }
}

function permissionsQuestion(method: string, params: JsonObject): Question {
  const requested = asObject(params.permissions)
  return {
    ...base(method, params, 'permissions'),
    permissions: requested,
    decisions: YES_OR_NO,
    answer: (decision, { permissions }) => ({
      // codex intersects the grant with what it asked for, so a wider grant has no effect.
      permissions: decision === 'accept' ? ((permissions ?? requested) as JsonObject) : {},
      scope: 'turn'
    })
  }
}

function elicitationQuestion(method: string, params: JsonObject): Question {
  const isToolCall = asObject(params._meta).codex_approval_kind === 'mcp_tool_call'
  const { threadId: _threadId, turnId: _turnId, ...elicitation } = params
  return {
    ...base(method, params, isToolCall ? 'mcpToolCall' : 'elicitation'),
    elicitation,
    decisions: isToolCall ? ONCE_OR_SESSION : ONCE,
    answer: (decision, { content }) => {
      const accepted = decision === 'accept' || decision === 'acceptForSession'
      return {
        action: accepted ? 'accept' : decision,
        content: accepted ? ((content ?? {}) as JsonValue) : null,
        // `persist` in _meta would silence later calls of the tool.
        _meta: null
      }
    }
  }
}

function toolQuestion(method: string, params: JsonObject): Question {
  return {
    ...base(method, params, 'dynamicTool'),
    itemId: asText(params.callId) ?? null,
    tool: { namespace: params.namespace ?? null, tool: params.tool ?? null, arguments: params.arguments ?? null },
    decisions: YES_OR_NO,
    answer: (decision, { contentItems, success }) =>
      decision === 'accept'
        ? { contentItems: (contentItems ?? []) as JsonValue, success: success ?? true }
        : { contentItems: [{ type: 'inputText', text: 'tool unavailable' }], success: false }
  }
}
