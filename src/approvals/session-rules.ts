import { randomBytes } from 'node:crypto'
import type { SessionRule } from '../../schemas/approvals.ts'
import type { Question } from '../codex/server-requests.ts'

/** "Accept for session" ends by itself after this long. */
const RULE_LIFETIME_MS = 8 * 60 * 60 * 1000
const MAX_RULES = 1_000

/** Where session rules outlive the gateway. */
export interface RuleStore {
  /** Durable when resolved; when it rejects, the rule is not kept. */
  putRule(rule: SessionRule): Promise<void>
  /** Gone for good when resolved. */
  deleteRule(ruleId: string): Promise<void>
  /** As deleteRule, some time later and without a word. */
  dropRule(ruleId: string): void
}

/** The gateway's own "accept for session" rules: codex's would silence later requests, unpoliced and unrecorded. */
export class SessionRules {
  readonly #store: RuleStore
  readonly #rules = new Map<string, SessionRule>()
  /** Revoked, but still in the store, which did not answer. */
  readonly #suspended = new Set<string>()

  /** @param stored what an earlier gateway kept */
  constructor(store: RuleStore, stored: readonly SessionRule[] = []) {
    this.#store = store
    for (const rule of stored) this.#rules.set(rule.ruleId, rule)
  }

  /**
   * Accepts this question from now on. Resolves when the rule is durable; rejects with StoreUnavailable, and then there
   * is none. Undefined for a kind that has nothing exact to compare.
   */
  async add(question: Question, createdBy: string, nowMs: number): Promise<SessionRule | undefined> {
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
    await this.#store.putRule(rule)
    this.#rules.set(rule.ruleId, rule)
    const oldest = this.#rules.keys().next().value
    if (this.#rules.size > MAX_RULES && oldest !== undefined) this.#drop(oldest)
    return rule
  }

  /** The rule that accepts exactly this question now. */
  find(question: Question, nowMs: number): SessionRule | undefined {
    const subject = subjectOf(question)
    if (subject === undefined) return undefined
    return this.list(nowMs).find(
      (rule) =>
        !this.#suspended.has(rule.ruleId) &&
        rule.subject === subject &&
        rule.kind === question.kind &&
        rule.threadId === question.threadId &&
        rule.cwd === (question.cwd ?? null)
    )
  }

  list(nowMs: number): SessionRule[] {
    for (const [ruleId, { expiresAt }] of this.#rules) if (Date.parse(expiresAt) <= nowMs) this.#drop(ruleId)
    return [...this.#rules.values()]
  }

  /**
   * Resolves with whether there was such a rule, when it is gone for good. Rejects with StoreUnavailable: the rule then
   * accepts nothing any more, but is listed until it can be deleted, because the next gateway would find it.
   */
  async revoke(ruleId: string): Promise<boolean> {
    if (!this.#rules.has(ruleId)) return false
    this.#suspended.add(ruleId)
    await this.#store.deleteRule(ruleId)
    this.#suspended.delete(ruleId)
    return this.#rules.delete(ruleId)
  }

  #drop(ruleId: string): void {
    this.#rules.delete(ruleId)
    this.#suspended.delete(ruleId)
    this.#store.dropRule(ruleId)
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
