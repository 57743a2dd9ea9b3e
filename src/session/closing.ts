import { ShuttingDown, withDetails } from '../../errors.ts'

/** What the clients of a gateway that ends are told. */
export const CLOSING = 'the service is shutting down'

/** No gateway is up again sooner. */
const MIN_RETRY_MS = 1_000
/** How many clients may come back per second, if that does not take longer than half a minute. */
const RETURNS_PER_S = 100
const MAX_SPREAD_MS = 30_000

/** Methods that begin something; the gateway then only waits for the end of what runs. */
const BEGINS_WORK = new Set([
  'thread/start',
  'thread/fork',
  'turn/start',
  'review/start',
  'thread/compact/start',
  'thread/queue/add',
  'thread/queue/start'
])

/** Throws ShuttingDown for a method that would begin something. */
export function refuseNewWork(method: string, retryAfterMs: number): void {
  if (BEGINS_WORK.has(method)) throw shuttingDown(retryAfterMs)
}

/** ShuttingDown with `retryAfter` in whole seconds. */
export function shuttingDown(retryAfterMs: number): Error {
  return withDetails(new ShuttingDown(), { retryAfter: Math.ceil(retryAfterMs / 1_000) })
}

/**
 * When somebody may come back, drawn by chance in steps of 10 ms: all `clients` at once would be the next trouble.
 *
 * @param random 0 … 1
 */
export function drawRetryAfterMs(clients: number, random = Math.random()): number {
  const spreadMs = Math.min(Math.max(MIN_RETRY_MS, (clients / RETURNS_PER_S) * 1_000), MAX_SPREAD_MS)
  return Math.round((MIN_RETRY_MS + random * spreadMs) / 10) * 10
}

/** The reason of a close frame, which for some clients is all that they see. */
export function closeReason(retryAfterMs: number): string {
  return `${CLOSING}; retryAfter=${retryAfterMs / 1_000}`
}
