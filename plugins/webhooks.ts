import fp from 'fastify-plugin'
import type { ApprovalEvent } from '../schemas/server-messages.ts'
import { ApprovalWebhooks } from '../src/webhooks/approval-webhooks.ts'
import { DecisionTokens } from '../src/webhooks/decision-tokens.ts'

const LOOPBACK_HOSTS = new Set(['127.0.0.1', '[::1]', 'localhost'])

export interface WebhooksOptions {
  /** WEBHOOK_URL and its secret; undefined: nobody is told. */
  endpoint: { url: string; secret: string } | undefined
  /** PUBLIC_URL, without a slash at its end. */
  publicUrl: string | undefined
}

export interface Webhooks {
  /** Takes an event of the user's approvals. Never throws and never waits. */
  onApproval(userId: string, event: ApprovalEvent): void
  /** What the receivers can decide with. */
  tokens: Pick<DecisionTokens, 'verify'>
}

declare module 'fastify' {
  interface FastifyInstance {
    webhooks: Webhooks
  }
}

/** Tells the operator's webhook of approvals. Registered before the sessions, so that it hears how the last ones end. */
export default fp<WebhooksOptions>(
  async function webhooksPlugin(fastify, { endpoint, publicUrl }) {
    const { log } = fastify
    const tokens = new DecisionTokens()
    if (endpoint === undefined) {
      fastify.decorate('webhooks', { tokens, onApproval() {} })
      return
    }
    const { protocol, host, hostname } = new URL(endpoint.url)
    // The host alone names it: a path often holds a secret.
    const webhooks = new ApprovalWebhooks({ endpoint: { ...endpoint, id: host }, publicUrl, tokens, log })
    log.info({ webhook: host, hasLinks: publicUrl !== undefined }, 'approvals are told to a webhook')
    if (protocol === 'http:' && !LOOPBACK_HOSTS.has(hostname)) {
      log.warn({ webhook: host }, 'WEBHOOK_URL is not https: who listens on the way can decide approvals')
    }
    fastify.decorate('webhooks', {
      tokens,
      onApproval(userId, event) {
        try {
          webhooks.onApproval(userId, event)
        } catch (error) {
          // A session must not fail because it could not be told of.
          log.error({ err: error, webhook: host, userId }, 'an approval could not be told to the webhook')
        }
      }
    })
    fastify.addHook('onClose', () => webhooks.close())
  },
  { name: 'webhooks' }
)
