import { randomBytes } from 'node:crypto'
import type { ApprovalResolved } from '../../schemas/approvals.ts'
import type { ApprovalEvent } from '../../schemas/server-messages.ts'
import type { WebhookEvent, WebhookEventType } from '../../schemas/webhooks.ts'
import type { DecisionTokens, TokenScope } from './decision-tokens.ts'
import { Deliveries, type DeliveryLimits, type DeliveryLog, type WebhookEndpoint } from './deliveries.ts'
import { decisionsByToken, showApproval } from './shown-approval.ts'

export interface ApprovalWebhooksOptions {
  endpoint: WebhookEndpoint
  /** Where people reach the gateway; the link to the confirmation page is made of it. Without it there is no link. */
  publicUrl: string | undefined
  tokens: DecisionTokens
  log: DeliveryLog
  limits?: DeliveryLimits
}

/** Extending an approval reminds too, and a client may extend as often as it likes. */
const MIN_REMINDER_INTERVAL_MS = 5_000

/** Tells a webhook of the approvals that wait for a person, and gives its receiver the means to decide them. */
export class ApprovalWebhooks {
  readonly #tokens: DecisionTokens
  readonly #endpoint: WebhookEndpoint
  readonly #publicUrl: string | undefined
  readonly #deliveries: Deliveries
  readonly #remindedAtMs = new Map<string, number>()

  constructor({ endpoint, publicUrl, tokens, log, limits }: ApprovalWebhooksOptions) {
    this.#tokens = tokens
    this.#endpoint = endpoint
    this.#publicUrl = publicUrl
    this.#deliveries = new Deliveries(endpoint, log, limits)
  }

  /** Takes an event of a session's ledger. What nobody was asked about (decided by policy or rule) is not told. */
  onApproval(userId: string, event: ApprovalEvent): void {
    if (event.type === 'approval/request') {
      const decisions = decisionsByToken(event.payload)
      this.#tokens.open({ userId, webhookId: this.#endpoint.id, approval: showApproval(event.payload), decisions })
    }
    const scope = this.#tokens.find(event.payload.approvalId)
    if (!scope) return
    if (event.type === 'approval/request') this.#ask('approval.requested', scope)
    else if (event.type === 'approval/reminder') this.#remind(scope, event.payload.expiresAt)
    else this.#tellEnd(scope, event.payload)
  }

  /** Resolves within the grace of {@link Deliveries.close}. */
  close(): Promise<void> {
    return this.#deliveries.close()
  }

  #remind(scope: TokenScope, expiresAt: string): void {
    const { approvalId } = scope.approval
    this.#tokens.extend(approvalId, expiresAt)
    const nowMs = Date.now()
    if (nowMs - (this.#remindedAtMs.get(approvalId) ?? 0) < MIN_REMINDER_INTERVAL_MS) return
    this.#remindedAtMs.set(approvalId, nowMs)
    this.#ask('approval.reminder', scope)
  }

  #ask(type: WebhookEventType, scope: TokenScope): void {
    const { approval, decisions } = scope
    const token = this.#tokens.issue(approval.approvalId)
    const url = this.#publicUrl === undefined ? {} : { url: `${this.#publicUrl}/decide?token=${token}` }
    const { expiresAt } = approval
    this.#send(type, scope, { decide: { ...url, token, decisions: [...decisions], expiresAt } })
  }

  #tellEnd(scope: TokenScope, resolution: ApprovalResolved): void {
    const { approvalId, outcome, by } = resolution
    this.#tokens.resolve(resolution)
    this.#remindedAtMs.delete(approvalId)
    this.#send(outcome === 'expired' ? 'approval.expired' : 'approval.resolved', scope, { outcome, by })
  }

  #send(type: WebhookEventType, { userId, approval }: TokenScope, rest: Partial<WebhookEvent>): void {
    const id = `whd_${randomBytes(12).toString('base64url')}`
    const event: WebhookEvent = { id, type, at: new Date().toISOString(), userId, approval, ...rest }
    this.#deliveries.enqueue({ id, type, lane: approval.approvalId, body: JSON.stringify(event) })
  }
}
