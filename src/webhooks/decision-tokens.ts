import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { DecisionTokenInvalid } from '../../errors.ts'
import type { ApprovalResolved } from '../../schemas/approvals.ts'
import type { TokenDecision, WebhookApproval } from '../../schemas/webhooks.ts'

/** What a token is good for: one approval of one user, for a webhook, these decisions and no other. */
export interface TokenScope {
  readonly userId: string
  readonly webhookId: string
  readonly approval: WebhookApproval
  readonly decisions: readonly TokenDecision[]
}

/** The scope of a token, and how its approval ended, when it did. */
export interface VerifiedToken extends TokenScope {
  readonly resolution: ApprovalResolved | undefined
}

interface Entry {
  scope: TokenScope
  resolution: ApprovalResolved | undefined
  /** SHA-256 of each token of this approval, oldest first. */
  hashes: Buffer[]
}

const TOKEN_BYTES = 32
/** Each reminder brings a token of its own, because the one before is not kept. */
const MAX_TOKENS_PER_APPROVAL = 8
/** Resolved approvals that are remembered, so that a late answer learns who was first. */
const MAX_REMEMBERED = 1_000

/**
 * The tokens with which a webhook's receiver decides approvals. Only hashes are kept. A token is as good as its
 * approval: it decides nothing once that is resolved (the ledger takes one decision), and is unknown after its time.
 */
export class DecisionTokens {
  readonly #entries = new Map<string, Entry>()

  /** Begins to issue tokens for an approval. */
  open(scope: TokenScope): void {
    this.#forget(Date.now())
    this.#entries.set(scope.approval.approvalId, { scope, resolution: undefined, hashes: [] })
  }

  /** A fresh token for an approval that was opened. */
  issue(approvalId: string): string {
    const token = `${approvalId}.${randomBytes(TOKEN_BYTES).toString('base64url')}`
    const { hashes } = this.#entries.get(approvalId) as Entry
    hashes.push(hashOf(token))
    if (hashes.length > MAX_TOKENS_PER_APPROVAL) hashes.shift()
    return token
  }

  /** What was opened for this approval and is not resolved. */
  find(approvalId: string): TokenScope | undefined {
    const entry = this.#entries.get(approvalId)
    return entry?.resolution === undefined ? entry?.scope : undefined
  }

  /** The approval, and its tokens with it, live until then. */
  extend(approvalId: string, expiresAt: string): void {
    const scope = this.find(approvalId)
    if (scope) scope.approval.expiresAt = expiresAt
  }

  resolve(resolution: ApprovalResolved): void {
    const entry = this.#entries.get(resolution.approvalId)
    if (entry) entry.resolution = resolution
  }

  /** Throws DecisionTokenInvalid: unknown, of another approval, or past its time. */
  verify(token: string, nowMs: number): VerifiedToken {
    const entry = this.#entries.get(token.slice(0, token.lastIndexOf('.')))
    const hash = hashOf(token)
    if (!entry?.hashes.some((known) => timingSafeEqual(known, hash)) || isOver(entry, nowMs)) {
      throw new DecisionTokenInvalid()
    }
    return { ...entry.scope, resolution: entry.resolution }
  }

  #forget(nowMs: number): void {
    let surplus = this.#entries.size - MAX_REMEMBERED
    for (const [approvalId, entry] of this.#entries) {
      if (entry.resolution === undefined) continue
      if (surplus > 0 || isOver(entry, nowMs)) this.#entries.delete(approvalId)
      surplus--
    }
  }
}

function isOver({ scope }: Entry, nowMs: number): boolean {
  return Date.parse(scope.approval.expiresAt) <= nowMs
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
