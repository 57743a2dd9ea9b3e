import { createHash } from 'node:crypto'
import { PolicyFileInvalid } from '../../errors.ts'
import type { ApproverGrant, Policy, PolicyFile, Rule, RuleMatch } from '../../schemas/policy.ts'
import { policyProblems } from './policy-problems.ts'
import { entryFor, programName } from './programs.ts'
import { isRefusal } from './request.ts'
import { compilePattern, type PathPattern } from './scope.ts'
import { readScript } from './shell.ts'

export interface CompiledRule {
  readonly id: string
  readonly verdict: Rule['verdict']
  readonly reason: string | undefined
  readonly expiresAtMs: number
  readonly match: RuleMatch
  /** `match.argv` with its first word as {@link programName} gives it. */
  readonly argv: readonly string[] | undefined
  readonly paths: readonly PathPattern[] | undefined
}

/** A policy made ready for decisions. */
export interface Rules {
  /** The merged policy, as the API shows it. */
  readonly policy: Policy
  readonly version: string
  /** Rules by layer, widest first. */
  readonly layers: readonly (readonly CompiledRule[])[]
  /** Leading words of the listed commands that the table judges. */
  readonly listedPrefixes: readonly (readonly string[])[]
  /** Listed commands the table does not know: the whole command must be these words. */
  readonly listedCommands: readonly (readonly string[])[]
  readonly allowedPaths: readonly PathPattern[]
}

/** The policy without any file. */
export const DEFAULT_POLICY = {
  timeoutMs: 300_000,
  defaultAction: 'decline',
  autoApprove: {
    readOnly: true,
    commands: ['ls', 'cat', 'grep', 'git status', 'git log'],
    paths: ['/tmp/*']
  },
  rules: [],
  approvers: []
} as const satisfies Omit<Policy, 'version'>

/**
 * Merges policy layers over the defaults, widest first (organisation, then user). A narrower layer replaces single values
 * and lists of `autoApprove`; `approvers` add up. Rules keep their layer: the first match of the narrowest layer counts,
 * save that a decline of any layer stands.
 *
 * @throws PolicyFileInvalid for a layer that breaks a rule of its own (see policyProblems); its shape is the caller's.
 */
export function compileRules(layers: readonly PolicyFile[]): Rules {
  for (const layer of layers) {
    const [problem] = policyProblems(layer)
    if (problem !== undefined) throw new PolicyFileInvalid('layer', `${problem.pointer}: ${problem.message}`)
  }
  const merged = mergeLayers(layers)
  const version = createHash('sha256').update(canonicalJson(merged)).digest('hex').slice(0, 16)
  const listed = merged.autoApprove.commands.map(listedWords)
  return {
    policy: { version, ...merged },
    version,
    layers: layers.map((layer) => (layer.rules ?? []).map(compileRule)),
    listedPrefixes: listed.filter((words) => isKnown(words)),
    listedCommands: listed.filter((words) => !isKnown(words)),
    allowedPaths: merged.autoApprove.paths.map(compilePattern)
  }
}

/** Whether the policy lets `actor` decide approvals of `ownerId`. A user's own approvals are not the policy's matter. */
export function mayApproveFor(
  policy: Policy,
  actor: { readonly userId: string; readonly roles: readonly string[] },
  ownerId: string
): boolean {
  return policy.approvers.some((grant) => covers(grant, ownerId) && holds(grant, actor))
}

function covers(grant: ApproverGrant, ownerId: string): boolean {
  return grant.for.includes('*') || grant.for.includes(ownerId)
}

function holds(grant: ApproverGrant, actor: { readonly userId: string; readonly roles: readonly string[] }): boolean {
  const byRole = grant.roles?.some((role) => actor.roles.includes(role)) ?? false
  return byRole || (grant.users?.includes(actor.userId) ?? false)
}

function mergeLayers(layers: readonly PolicyFile[]): Omit<Policy, 'version'> {
  const merged: Omit<Policy, 'version'> = structuredClone(DEFAULT_POLICY) as Omit<Policy, 'version'>
  for (const layer of layers) {
    merged.timeoutMs = layer.timeoutMs ?? merged.timeoutMs
    merged.defaultAction = layer.defaultAction ?? merged.defaultAction
    merged.autoApprove = { ...merged.autoApprove, ...layer.autoApprove }
    merged.rules = [...merged.rules, ...(layer.rules ?? [])]
    merged.approvers = [...merged.approvers, ...(layer.approvers ?? [])]
  }
  return merged
}

function listedWords(entry: string): readonly string[] {
  const commands = readScript(entry)
  return isRefusal(commands) ? [] : (commands[0]?.argv ?? [])
}

function isKnown(words: readonly string[]): boolean {
  // "git" alone means every subcommand of the table; "git push" is no subcommand of the table.
  return entryFor(words) !== undefined || (words.length === 1 && words[0] === 'git')
}

function compileRule(rule: Rule): CompiledRule {
  const { argv, paths } = rule.match
  return {
    id: rule.id,
    verdict: rule.verdict,
    reason: rule.reason,
    expiresAtMs: rule.expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(rule.expiresAt),
    match: rule.match,
    argv: argv === undefined ? undefined : [programName(argv[0] ?? ''), ...argv.slice(1)],
    paths: paths?.map(compilePattern)
  }
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([left], [right]) => (left < right ? -1 : 1)))
      : part
  )
}
