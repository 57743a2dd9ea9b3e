import type { CommandUse } from './argv.ts'
import { programName } from './programs.ts'
import type { FileChange } from './request.ts'
import type { CompiledRule, Rules } from './rules.ts'
import type { PathScope } from './scope.ts'

/**
 * The rule that decides: the first match of the narrowest layer that has one, save that a decline of a wider layer stands.
 */
export function findRule(
  rules: Rules,
  now: number,
  matches: (rule: CompiledRule) => boolean
): CompiledRule | undefined {
  let found: CompiledRule | undefined
  for (const layer of rules.layers) {
    const first = layer.find((rule) => now < rule.expiresAtMs && matches(rule))
    if (first?.verdict === 'decline') return first
    found = first ?? found
  }
  return found
}

/** @param use what the table read of the command; undefined when it does not know or allow it */
export function matchesCommand(
  rule: CompiledRule,
  argv: readonly string[],
  use: CommandUse | undefined,
  cwd: string,
  scope: PathScope
): boolean {
  if (rule.match.kind !== 'command') return false
  if (rule.argv !== undefined && !startsWith(argv, rule.argv)) return false
  if (rule.match.exact === true && argv.length !== rule.argv?.length) return false
  if (rule.paths === undefined) return true
  return use !== undefined && coversPaths(rule, rule.paths, use.paths, cwd, scope)
}

/** Commands that could not be read are matched by rules that look at nothing but the kind. */
export function matchesUnreadCommand(rule: CompiledRule): boolean {
  return rule.match.kind === 'command' && rule.argv === undefined && rule.paths === undefined
}

export function matchesChange(rule: CompiledRule, change: FileChange, workspace: string, scope: PathScope): boolean {
  if (rule.match.kind !== 'fileChange') return false
  if (rule.match.changes !== undefined && !rule.match.changes.includes(change.kind)) return false
  return rule.paths === undefined || coversPaths(rule, rule.paths, changedPaths(change), workspace, scope)
}

export function changedPaths(change: FileChange): readonly string[] {
  return typeof change.movePath === 'string' ? [change.path, change.movePath] : [change.path]
}

/** `*.example.com` covers every host below example.com, not example.com. */
export function matchesHost(rule: CompiledRule, host: string): boolean {
  const lower = host.toLowerCase()
  return (
    rule.match.hosts?.some((pattern) =>
      pattern.startsWith('*.')
        ? lower.endsWith(pattern.slice(1)) && lower.length > pattern.length - 1
        : lower === pattern
    ) ?? true
  )
}

export function matchesTool(rule: CompiledRule, server: string | undefined, tool: string | undefined): boolean {
  const { server: wanted, tools } = rule.match
  return (
    (wanted === undefined || wanted === server) && (tools === undefined || (tool !== undefined && tools.includes(tool)))
  )
}

/** Caution reads wide, acceptance narrow: one covered path asks or declines, every path must be covered to accept. */
function coversPaths(
  rule: CompiledRule,
  patterns: NonNullable<CompiledRule['paths']>,
  paths: readonly string[],
  cwd: string,
  scope: PathScope
): boolean {
  if (rule.verdict !== 'accept') return paths.some((path) => scope.covers(patterns, path, cwd, true))
  return paths.length > 0 && paths.every((path) => scope.covers(patterns, path, cwd, false))
}

export function startsWith(argv: readonly string[], words: readonly string[]): boolean {
  if (argv.length < words.length) return false
  return words.every((word, index) => word === (index === 0 ? programName(argv[0] ?? '') : argv[index]))
}
