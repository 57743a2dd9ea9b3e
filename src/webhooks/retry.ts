/** How a delivery attempt ended. */
export type AttemptResult =
  | { type: 'delivered' }
  /** `retryAfterMs`: what the receiver asked for. */
  | { type: 'failed'; reason: string; canRetry: boolean; retryAfterMs: number }

export interface Backoff {
  baseDelayMs: number
  maxDelayMs: number
}

/** A receiver that asks for longer is asked again sooner: the approval would be over. */
const MAX_RETRY_AFTER_MS = 120_000
const TEMPORARY_STATUSES = new Set([408, 425, 429])

/** What an HTTP answer means for the delivery. @param retryAfter the header of this name */
export function judgeAnswer(status: number, retryAfter: string | null, nowMs: number): AttemptResult {
  if (status >= 200 && status < 300) return { type: 'delivered' }
  const canRetry = status >= 500 || TEMPORARY_STATUSES.has(status)
  const isRedirect = status >= 300 && status < 400
  const reason = isRedirect ? `HTTP ${status}; redirects are not followed` : `HTTP ${status}`
  return { type: 'failed', reason, canRetry, retryAfterMs: readRetryAfter(retryAfter, nowMs) }
}

/**
 * How long to wait after the failed attempt number `attempt` (from 1): doubles, half of it at random, so that many
 * deliveries that failed at once do not come back at once. Never less than the receiver asked for.
 *
 * @param random from 0 to 1
 */
export function retryDelayMs(attempt: number, retryAfterMs: number, backoff: Backoff, random: number): number {
  const delayMs = Math.min(backoff.baseDelayMs * 2 ** (attempt - 1), backoff.maxDelayMs)
  return Math.max(delayMs / 2 + (delayMs / 2) * random, retryAfterMs)
}

function readRetryAfter(header: string | null, nowMs: number): number {
  if (header === null) return 0
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMs
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS) : 0
}
