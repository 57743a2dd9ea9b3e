import { randomBytes } from 'node:crypto'
import type { SessionRule } from '../../schemas/approvals.ts'
import type { Question } from '../codex/server-requests.ts'

/** "Accept for session" ends by itself after this long. */
const RULE_LIFETIME_MS = 8 * 60 * 60 * 1000
const MAX_RULES = 1_000

/** The gateway's own "accept for session" rules: codex's would silence later requests, unpoliced and unrecorded. */
export class SessionRules {
  readonly #rules = new Map<string, SessionRule>()

  /** Accepts this question from now on. Undefined for a kind that has nothing exact to compare. */
  add(question: Question, createdBy: string, nowMs: number): SessionRule | undefined {
    const subject = subjectOf(question)
    if (subject === undefined || question.threadId === null) return undefined
    const rule: SessionRule = {
      ruleId: `srule_${randomBytes(9).toString('base64url')}`,
      threadId: question.threadId,
      kind: question.kind,
      subject,
      cwd: question.cwd ?? null,
      createdBy,
      expiresAt: new Date(nowMs + RULE_LIFETIME_MS).toISOString()
    }
    this.#rules.set(rule.ruleId, rule)
    const oldest = this.#rules.keys().next().value
    if (this.#rules.size > MAX_RULES && oldest !== undefined) this.#rules.delete(oldest)
    return rule
  }

  /** The rule that accepts exactly this question now. */
  find(question: Question, nowMs: number): SessionRule | undefined {
    const subject = subjectOf(question)
    if (subject === undefined) return undefined
    return this.list(nowMs).find(
      (rule) =>
        rule.subject === subject &&
        rule.kind === question.kind &&
        rule.threadId === question.threadId &&
        rule.cwd === (question.cwd ?? null)
    )
  }

  list(nowMs: number): SessionRule[] {
    for (const [ruleId, { expiresAt }] of this.#rules) if (Date.parse(expiresAt) <= nowMs) this.#rules.delete(ruleId)
    return [...this.#rules.values()]
  }

  /** Returns whether there was such a rule. */
  revoke(ruleId: string): boolean {
    return this.#rules.delete(ruleId)
  }
}

/**
 * What must be equal, to the byte, for the rule to apply; undefined where nothing is exact enough. A command that asks
 * for more permissions than the sandbox gives is never covered: the rule was given for the command alone.
 */
function subjectOf(question: Question): string | undefined {
  switch (question.kind) {
    case 'command':
      return question.permissions === undefined ? question.command : undefined
    case 'fileChange':
      return question.changes?.length
        ? JSON.stringify(question.changes.map(({ path, kind, movePath }) => [path, kind, movePath ?? null]).sort())
        : undefined
    case 'mcpToolCall':
      return JSON.stringify(question.elicitation)
    default:
      return undefined
  }
}
