import { posix } from 'node:path'
import type { ChangeKind, PolicyEvaluateBody, Verdict } from '../../schemas/policy.ts'
import type { Question } from '../codex/server-requests.ts'
import { asObject, asText, type JsonValue } from '../json.ts'

/** What a command approval says beside the command (PROTOCOL: auto-approve only if all of it is plain). */
export interface CommandGate {
  /** `kind` of the approval; anything but `command` is a human's or a terminal's input. */
  readonly commandKind: 'command' | 'humanCommand' | 'writeStdin'
  readonly approvalId: string | null
  readonly environmentId: string | null
  readonly hasNetworkContext: boolean
  readonly hasAdditionalPermissions: boolean
}

/** The gate of an ordinary command approval, and of one that only asks what the policy would say. */
export const PLAIN_GATE: CommandGate = {
  commandKind: 'command',
  approvalId: null,
  environmentId: null,
  hasNetworkContext: false,
  hasAdditionalPermissions: false
}

export interface CommandRequest {
  readonly kind: 'command'
  /** `params.command` unchanged: codex sends shlex_join(argv); a person may send a plain script. */
  readonly command: string
  /** Absolute, as codex sees it; the model chose it. */
  readonly cwd: string
  readonly workspace: string
  readonly gate: CommandGate
}

export interface FileChange {
  readonly path: string
  readonly kind: ChangeKind
  readonly movePath?: string | null | undefined
}

export interface FileChangeRequest {
  readonly kind: 'fileChange'
  /** From the item/started of the same itemId: the approval itself carries no paths. */
  readonly changes: readonly FileChange[]
  readonly grantRoot?: string | null | undefined
  readonly workspace: string
}

/** Everything codex may ask that a policy can judge. Paths are as codex sees them. */
export type PolicyRequest =
  | CommandRequest
  | FileChangeRequest
  | { readonly kind: 'permissions'; readonly workspace: string }
  | { readonly kind: 'network'; readonly host: string; readonly protocol?: string | undefined }
  | { readonly kind: 'writeStdin'; readonly command: string }
  | { readonly kind: 'mcpToolCall'; readonly server?: string | undefined; readonly tool: string }
  | { readonly kind: 'elicitation'; readonly server?: string | undefined }
  | { readonly kind: 'userInput' }
  | { readonly kind: 'dynamicTool'; readonly tool: string }

/** The answer of the policy. `rule` is an owner's rule id, or `builtin:…`; `argv` is what was read of a command. */
export interface PolicyDecision {
  readonly verdict: Verdict
  readonly rule: string
  readonly reason: string
  readonly argv?: string[][]
}

/** Why something could not be proved; the caller asks. */
export interface Refusal {
  readonly refusal: string
}

export function refuse(refusal: string): Refusal {
  return { refusal }
}

export function isRefusal(value: object): value is Refusal {
  return 'refusal' in value
}

/** The request that `POST /api/policy/evaluate` describes; relative paths start at the workspace. */
export function requestFromEvaluate(body: PolicyEvaluateBody, workspace: string): CommandRequest | FileChangeRequest {
  if (body.kind === 'command') {
    const cwd = posix.resolve(workspace, body.cwd ?? '.')
    return { kind: 'command', command: body.command, cwd, workspace, gate: PLAIN_GATE }
  }
  return { kind: 'fileChange', changes: body.changes, workspace }
}

/**
 * The request behind a question of codex. Fields that are missing or of an unknown shape count against it: a gate that
 * cannot be read is closed.
 *
 * @param workspace the user's workspace as codex sees it
 */
export function requestFromQuestion(question: Question, workspace: string): PolicyRequest {
  const { params } = question
  switch (question.kind) {
    case 'command':
      return {
        kind: 'command',
        command: question.command ?? '',
        cwd: question.cwd ?? '',
        workspace,
        gate: gateOf(params)
      }
    case 'fileChange':
      return { kind: 'fileChange', changes: question.changes ?? [], grantRoot: textOrNull(params.grantRoot), workspace }
    case 'permissions':
      return { kind: 'permissions', workspace }
    case 'network': {
      const { host, protocol } = asObject(params.networkApprovalContext)
      return { kind: 'network', host: asText(host) ?? '', protocol: asText(protocol) }
    }
    case 'writeStdin':
      return { kind: 'writeStdin', command: question.command ?? '' }
    case 'mcpToolCall':
      return {
        kind: 'mcpToolCall',
        server: asText(params.serverName),
        tool: asText(asObject(params._meta).tool_name) ?? ''
      }
    case 'elicitation':
      return { kind: 'elicitation', server: asText(params.serverName) }
    case 'userInput':
      return { kind: 'userInput' }
    case 'dynamicTool':
      return { kind: 'dynamicTool', tool: asText(params.tool) ?? '' }
  }
}

function gateOf(params: Question['params']): CommandGate {
  const { kind } = params
  return {
    commandKind: kind === 'command' || kind === 'writeStdin' ? kind : 'humanCommand',
    approvalId: textOrNull(params.approvalId),
    environmentId: textOrNull(params.environmentId),
    hasNetworkContext: (params.networkApprovalContext ?? null) !== null,
    hasAdditionalPermissions: (params.additionalPermissions ?? null) !== null
  }
}

/** Null for null and absent; any other value that is no text becomes a text that no condition accepts. */
function textOrNull(value: JsonValue | undefined): string | null {
  return value === null || value === undefined ? null : (asText(value) ?? 'unreadable')
}
