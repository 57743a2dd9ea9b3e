import { posix } from 'node:path'
import type { PolicyContext } from './context.ts'
import { findRule, matchesCommand, matchesUnreadCommand, startsWith } from './match.ts'
import { checkCommand, type KnownCommand } from './programs.ts'
import { type CommandGate, type CommandRequest, isRefusal, type PolicyDecision } from './request.ts'
import type { CompiledRule, Rules } from './rules.ts'
import { PathScope } from './scope.ts'
import { sameWords, secondOpinionAgrees } from './second-opinion.ts'
import type { SimpleCommand } from './shell.ts'
import { type CommandReading, readCommand } from './unwrap.ts'

/** Decides a command approval: every simple command for itself, then the strictest of them. */
export function decideCommand(request: CommandRequest, rules: Rules, context: PolicyContext): PolicyDecision {
  const reading = readCommand(request.command)
  if (isRefusal(reading)) {
    const rule = findRule(rules, context.now, matchesUnreadCommand)
    return rule === undefined || rule.verdict === 'accept' ? ask('builtin:shell', reading.refusal) : byRule(rule)
  }
  const judge = new CommandJudge(request, rules, context)
  const argv = reading.commands.map((command) => [...command.argv])
  return { ...judge.decide(reading), argv }
}

class CommandJudge {
  readonly #request: CommandRequest
  readonly #rules: Rules
  readonly #context: PolicyContext
  readonly #scope: PathScope

  constructor(request: CommandRequest, rules: Rules, context: PolicyContext) {
    this.#request = request
    this.#rules = rules
    this.#context = context
    this.#scope = new PathScope(context, request.workspace, rules.allowedPaths)
  }

  decide(reading: CommandReading): PolicyDecision {
    const decisions = reading.commands.map((command) => this.#decideOne(command, reading.commands.length))
    const strictest =
      decisions.find(({ verdict }) => verdict === 'decline') ??
      decisions.find(({ verdict }) => verdict === 'ask') ??
      (decisions[0] as PolicyDecision)
    if (strictest.verdict !== 'accept') return strictest
    const closed = gateProblem(this.#request.gate) ?? this.#scope.cwdProblem(this.#request.cwd)
    if (closed !== undefined) return ask('builtin:gate', closed)
    // Two parsers that were written apart must read the same words before anything runs unasked.
    if (!secondOpinionAgrees(reading.script, reading.commands)) {
      return ask('builtin:second-opinion', 'a second parser reads the command differently')
    }
    return strictest
  }

  #decideOne(command: SimpleCommand, count: number): PolicyDecision {
    const known = checkCommand(command)
    const use = isRefusal(known) ? undefined : known.use
    const { cwd } = this.#request
    const rule = findRule(this.#rules, this.#context.now, (candidate) =>
      matchesCommand(candidate, command.argv, use, cwd, this.#scope)
    )
    if (rule !== undefined) return this.#decideByRule(rule, use)
    if (!isRefusal(known)) return this.#decideKnown(command, known)
    if (count === 1 && this.#rules.listedCommands.some((words) => sameWords(words, command.argv))) {
      return accept('builtin:allowlist', `"${command.argv.join(' ')}" is on the allowlist, word for word`)
    }
    return ask('builtin:program', known.refusal)
  }

  #decideByRule(rule: CompiledRule, use: KnownCommand['use'] | undefined): PolicyDecision {
    if (rule.verdict !== 'accept' || use === undefined) return byRule(rule)
    for (const path of use.paths) {
      const problem = this.#scope.closedProblem(path, this.#request.cwd)
      if (problem !== undefined) return ask('builtin:scope', problem)
    }
    const problem = this.#scope.namesProblem(use.names)
    return problem === undefined ? byRule(rule) : ask('builtin:scope', problem)
  }

  #decideKnown(command: SimpleCommand, { entry, use }: KnownCommand): PolicyDecision {
    const listed = this.#rules.listedPrefixes.some((words) => startsWith(command.argv, words))
    if (!listed && !this.#rules.policy.autoApprove.readOnly) {
      return ask('builtin:program', `"${entry}" is not on the allowlist`)
    }
    const problem = this.#pathProblem(use) ?? (entry.startsWith('git ') ? this.#repositoryProblem() : undefined)
    if (problem !== undefined) return ask('builtin:scope', problem)
    return listed
      ? accept('builtin:allowlist', `${entry} is on the allowlist and stays in scope`)
      : accept('builtin:read-only', `${entry} only reads and stays in scope`)
  }

  #pathProblem(use: KnownCommand['use']): string | undefined {
    const { cwd } = this.#request
    const paths = use.walks && use.paths.length === 0 ? ['.'] : use.paths
    for (const path of paths) {
      const problem = this.#scope.readProblem(path, cwd, use.walks)
      if (problem !== undefined) return problem
      // A directory operand makes diff read what the directory holds, links included.
      if (use.filesOnly && this.#context.isDirectory(posix.resolve(cwd, path))) return `"${path}" is a directory`
    }
    return this.#scope.namesProblem(use.names)
  }

  #repositoryProblem(): string | undefined {
    const { cwd } = this.#request
    // The sandbox keeps only the .git of the workspace itself out of the agent's reach.
    if (!this.#scope.isWorkspace(cwd)) return 'git is accepted in the workspace root alone'
    const repository = this.#context.inspectRepository(this.#scope.real(cwd) ?? cwd)
    return repository.state === 'unproven' ? repository.reason : undefined
  }
}

function gateProblem(gate: CommandGate): string | undefined {
  if (gate.commandKind !== 'command') return 'the request is not for a command of the agent'
  if (gate.approvalId !== null) return 'the request is for a part of another command'
  if (gate.environmentId !== null && gate.environmentId !== 'local') return 'the command runs in another environment'
  if (gate.hasNetworkContext) return 'the request is for network access'
  return gate.hasAdditionalPermissions ? 'the command asks for more permissions' : undefined
}

function accept(rule: string, reason: string): PolicyDecision {
  return { verdict: 'accept', rule, reason }
}

export function ask(rule: string, reason: string): PolicyDecision {
  return { verdict: 'ask', rule, reason }
}

/** What an owner's rule says. */
export function byRule({ id, verdict, reason }: CompiledRule): PolicyDecision {
  return { verdict, rule: id, reason: reason ?? `rule "${id}" says ${verdict}` }
}
