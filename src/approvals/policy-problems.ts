import type { ApprovalKind } from '../../schemas/approvals.ts'
import type { PolicyFile, Rule, RuleMatch } from '../../schemas/policy.ts'
import { isRefusal } from './request.ts'
import { readScript } from './shell.ts'

/** What is wrong in a policy whose shape is right. `pointer` is a JSON pointer to the place. */
export interface PolicyProblem {
  readonly pointer: string
  readonly message: string
}

type MatchField = Exclude<keyof RuleMatch, 'kind'>

/** Which fields a rule may look at, and which an accepting rule must: "accept any command" is no rule. */
const KINDS: Readonly<
  Record<ApprovalKind, { readonly fields: readonly MatchField[]; readonly accept: readonly MatchField[] | 'never' }>
> = {
  command: { fields: ['argv', 'exact', 'paths'], accept: ['argv'] },
  fileChange: { fields: ['paths', 'changes'], accept: ['paths'] },
  network: { fields: ['hosts'], accept: ['hosts'] },
  mcpToolCall: { fields: ['server', 'tools'], accept: ['server', 'tools'] },
  permissions: { fields: [], accept: 'never' },
  writeStdin: { fields: [], accept: 'never' },
  elicitation: { fields: ['server'], accept: 'never' },
  userInput: { fields: [], accept: 'never' },
  dynamicTool: { fields: ['tools'], accept: 'never' }
}

/** The checks that a schema cannot make, in the order of the file. */
export function policyProblems(file: PolicyFile): PolicyProblem[] {
  return [...commandProblems(file), ...ruleProblems(file), ...approverProblems(file)]
}

function* commandProblems(file: PolicyFile): Generator<PolicyProblem> {
  for (const [index, entry] of (file.autoApprove?.commands ?? []).entries()) {
    const commands = readScript(entry)
    const pointer = `/autoApprove/commands/${index}`
    if (isRefusal(commands)) yield { pointer, message: `"${entry}" is not a plain command: ${commands.refusal}` }
    else if (commands.length > 1) yield { pointer, message: `"${entry}" is more than one command` }
  }
}

function* ruleProblems(file: PolicyFile): Generator<PolicyProblem> {
  const ids = new Set<string>()
  for (const [index, rule] of (file.rules ?? []).entries()) {
    const pointer = `/rules/${index}`
    if (ids.has(rule.id)) yield { pointer: `${pointer}/id`, message: `the id "${rule.id}" is used twice` }
    ids.add(rule.id)
    yield* matchProblems(rule, pointer)
  }
}

function* matchProblems({ match, verdict }: Rule, pointer: string): Generator<PolicyProblem> {
  const { fields, accept } = KINDS[match.kind]
  for (const field of Object.keys(match) as (keyof RuleMatch)[]) {
    if (field === 'kind' || fields.includes(field)) continue
    yield { pointer: `${pointer}/match/${field}`, message: `"${field}" does not fit the kind "${match.kind}"` }
  }
  if (match.exact !== undefined && match.argv === undefined) {
    yield { pointer: `${pointer}/match/exact`, message: '"exact" needs "argv"' }
  }
  if (verdict !== 'accept') return
  if (accept === 'never') {
    yield {
      pointer: `${pointer}/verdict`,
      message: `a rule cannot accept the kind "${match.kind}": a person has to answer`
    }
    return
  }
  for (const field of accept) {
    if (match[field] === undefined) yield { pointer: `${pointer}/match`, message: `an accepting rule needs "${field}"` }
  }
}

function* approverProblems(file: PolicyFile): Generator<PolicyProblem> {
  for (const [index, grant] of (file.approvers ?? []).entries()) {
    if (grant.roles === undefined && grant.users === undefined) {
      yield { pointer: `/approvers/${index}`, message: 'needs "roles" or "users"' }
    }
  }
}
