import type { PolicyContext } from './context.ts'
import { ask, byRule, decideCommand } from './decide-command.ts'
import { changedPaths, findRule, matchesChange, matchesHost, matchesTool } from './match.ts'
import type { FileChange, FileChangeRequest, PolicyDecision, PolicyRequest } from './request.ts'
import type { CompiledRule, Rules } from './rules.ts'
import { PathScope } from './scope.ts'

/** Shapes of a change that a patch has no business with: control characters hide a path from the person who is asked. */
const UNPRINTABLE = /[^\x20-\x7e\u00a0-\uffff]/

/**
 * What the policy says of a request: accept, ask a person, or decline. Pure: the clock and the file system are in
 * `context`. What nothing proves is asked; an owner's rule decides before the built-in table does, and an accepting rule
 * still has to pass the gate of the request and the guarded names.
 */
export function decide(request: PolicyRequest, rules: Rules, context: PolicyContext): PolicyDecision {
  switch (request.kind) {
    case 'command':
      return decideCommand(request, rules, context)
    case 'fileChange':
      return decideFileChange(request, rules, context)
    case 'network':
      return byKind(rules, context, (rule) => rule.match.kind === 'network' && matchesHost(rule, request.host))
    case 'mcpToolCall':
      return byKind(
        rules,
        context,
        (rule) => rule.match.kind === 'mcpToolCall' && matchesTool(rule, request.server, request.tool)
      )
    case 'elicitation':
      return byKind(
        rules,
        context,
        (rule) => rule.match.kind === 'elicitation' && matchesTool(rule, request.server, undefined)
      )
    case 'dynamicTool':
      return byKind(
        rules,
        context,
        (rule) => rule.match.kind === 'dynamicTool' && matchesTool(rule, undefined, request.tool)
      )
    case 'permissions':
    case 'writeStdin':
    case 'userInput':
      return byKind(rules, context, (rule) => rule.match.kind === request.kind)
  }
}

function byKind(rules: Rules, context: PolicyContext, matches: (rule: CompiledRule) => boolean): PolicyDecision {
  const rule = findRule(rules, context.now, matches)
  return rule === undefined ? ask('builtin:default', 'no rule covers this kind of request') : byRule(rule)
}

function decideFileChange(request: FileChangeRequest, rules: Rules, context: PolicyContext): PolicyDecision {
  const scope = new PathScope(context, request.workspace, rules.allowedPaths)
  const decisions = request.changes.map((change) => decideChange(change, request.workspace, rules, context, scope))
  const strictest =
    decisions.find(({ verdict }) => verdict === 'decline') ??
    decisions.find(({ verdict }) => verdict === 'ask') ??
    decisions[0]
  if (strictest === undefined) return ask('builtin:gate', 'the changes are not known')
  if (strictest.verdict === 'accept' && (request.grantRoot ?? null) !== null) {
    return ask('builtin:gate', 'the request is for lasting write access')
  }
  return strictest
}

function decideChange(
  change: FileChange,
  workspace: string,
  rules: Rules,
  context: PolicyContext,
  scope: PathScope
): PolicyDecision {
  const rule = findRule(rules, context.now, (candidate) => matchesChange(candidate, change, workspace, scope))
  if (rule !== undefined && rule.verdict !== 'accept') return byRule(rule)
  for (const path of changedPaths(change)) {
    const problem = UNPRINTABLE.test(path) ? 'a path holds control characters' : scope.writeProblem(path, rule?.paths)
    if (problem !== undefined) return ask('builtin:scope', problem)
  }
  if (rule !== undefined) return byRule(rule)
  return { verdict: 'accept', rule: 'builtin:allowed-path', reason: 'every path is below an allowlisted path' }
}
