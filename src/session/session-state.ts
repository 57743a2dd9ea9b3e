import { type Static, type TSchema, Type } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { type SessionRule, SessionRuleSchema } from '../../schemas/approvals.ts'
import { type StoredApproval, StoredApprovalSchema } from '../approvals/ledger-entry.ts'
import type { RuleStore } from '../approvals/session-rules.ts'
import type { JsonValue } from '../json.ts'
import type { Collection, DocumentStore } from '../stores/document-store.ts'
import { DocumentWriter } from '../stores/document-writer.ts'

/** What lasts of a thread. `turn` is the one that runs; found at the start of a gateway, it was cut off. */
export const StoredThreadSchema = Type.Object({
  threadId: Type.String(),
  name: Type.Union([Type.String(), Type.Null()]),
  /** The beginning of the first message. */
  preview: Type.Union([Type.String(), Type.Null()]),
  turn: Type.Optional(
    Type.Object({
      turnId: Type.String(),
      rootTurnId: Type.Union([Type.String(), Type.Null()]),
      /** Seconds since the epoch, as codex says it. */
      startedAt: Type.Union([Type.Number(), Type.Null()]),
      startedAtMs: Type.Number()
    })
  ),
  lastTurn: Type.Optional(Type.Object({ turnId: Type.String(), status: Type.String() }))
})
export type StoredThread = Static<typeof StoredThreadSchema>

/** Where threads outlive the gateway. */
export interface ThreadStore {
  /** Keeps what lasts of a thread, or forgets it (undefined). Resolves when that is durable. */
  saveThread(threadId: string, thread: StoredThread | undefined): Promise<void>
}

/** What the gateway before this one kept of a user's session. */
export interface StoredSession {
  /** Oldest first. */
  threads: StoredThread[]
  rules: SessionRule[]
  pendingApprovals: StoredApproval[]
}

/** Threads that are kept per user; the newest stay. */
export const MAX_THREADS = 1_000
/** No user id has one: the ids of one user's documents begin with no other's. */
const SEPARATOR = '/'

const checkThread = Compile(StoredThreadSchema)
const checkRule = Compile(SessionRuleSchema)
const checkApproval = Compile(StoredApprovalSchema)

/** The lasting part of one user's session, in the document store. */
export class SessionState implements RuleStore, ThreadStore {
  readonly #documents: DocumentStore
  readonly #userId: string
  readonly #onProblem: (error: Error) => void
  readonly #writer: DocumentWriter

  /** @param onProblem hears of writes that failed and documents that are not readable. Must not throw. */
  constructor(documents: DocumentStore, userId: string, onProblem: (error: Error) => void) {
    this.#documents = documents
    this.#userId = userId
    this.#onProblem = onProblem
    this.#writer = new DocumentWriter(documents, onProblem)
  }

  /** Something is not written yet: what is loaded now would be too old. */
  get isWriting(): boolean {
    return this.#writer.isWriting
  }

  /** What is stored; what is expired or beyond the bound goes. Rejects as DocumentStore.list does. */
  async load(): Promise<StoredSession> {
    const [threads, rules, pendingApprovals] = await Promise.all([
      this.#read('threads', checkThread),
      this.#read('session-rules', checkRule),
      this.#read('pending-approvals', checkApproval)
    ])
    // codex's thread ids are UUIDs of version 7: their order is that of their making.
    for (const { threadId } of threads.splice(0, threads.length - MAX_THREADS))
      void this.saveThread(threadId, undefined)
    const nowMs = Date.now()
    const [valid, expired] = [[], []] as [SessionRule[], SessionRule[]]
    for (const rule of rules) (Date.parse(rule.expiresAt) > nowMs ? valid : expired).push(rule)
    for (const { ruleId } of expired) this.dropRule(ruleId)
    return { threads, rules: valid, pendingApprovals }
  }

  /** Keeps the thread, or forgets it (undefined); see DocumentWriter.write. */
  saveThread(threadId: string, thread: StoredThread | undefined): Promise<void> {
    return this.#writer.write('threads', this.#id(threadId), thread)
  }

  /** See DocumentWriter.write. */
  saveApproval(stored: StoredApproval): Promise<void> {
    const value = JSON.parse(JSON.stringify(stored)) as JsonValue
    return this.#writer.write('pending-approvals', this.#id(stored.approval.approvalId), value)
  }

  removeApproval(approvalId: string): void {
    void this.#writer.write('pending-approvals', this.#id(approvalId), undefined)
  }

  async putRule(rule: SessionRule): Promise<void> {
    try {
      await this.#documents.put('session-rules', this.#id(rule.ruleId), { ...rule })
    } catch (error) {
      // It may have been stored all the same, and who gave it was told that it was not.
      this.dropRule(rule.ruleId)
      throw error
    }
  }

  async deleteRule(ruleId: string): Promise<void> {
    await this.#documents.delete('session-rules', this.#id(ruleId))
  }

  dropRule(ruleId: string): void {
    void this.#writer.write('session-rules', this.#id(ruleId), undefined)
  }

  /** Writes what is not written yet, within the writer's bound. */
  close(): Promise<void> {
    return this.#writer.close()
  }

  #id(part: string): string {
    return `${this.#userId}${SEPARATOR}${part}`
  }

  /** One document that is not what it should be must not keep the user out. */
  async #read<S extends TSchema>(
    collection: Collection,
    check: Validator<Record<never, never>, S>
  ): Promise<Static<S>[]> {
    const found = await this.#documents.list(collection, this.#id(''))
    return found.flatMap(({ id, value }) => {
      if (check.Check(value)) return [value as Static<S>]
      this.#onProblem(new Error(`the stored document "${id}" of ${collection} is not of its schema; it is left out`))
      return []
    })
  }
}

/** The users for whom an earlier gateway left approvals that wait. Rejects as DocumentStore.list does. */
export async function usersWithPendingApprovals(documents: DocumentStore): Promise<string[]> {
  const collection: Collection = 'pending-approvals'
  const found = await documents.list(collection)
  return [...new Set(found.map(({ id }) => id.slice(0, id.indexOf(SEPARATOR))))]
}
