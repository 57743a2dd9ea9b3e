import { type AttemptResult, judgeAnswer, retryDelayMs } from './retry.ts'
import { SIGNATURE_HEADER, signBody } from './signature.ts'

export interface WebhookEndpoint {
  /** Names the webhook in records and logs; unlike the URL it holds no secret. */
  id: string
  url: string
  secret: string
}

/** One message for the endpoint. */
export interface Delivery {
  id: string
  type: string
  /** Deliveries of one lane arrive in order: a lane is an approval. */
  lane: string
  /** JSON; sent exactly so, and signed exactly so. */
  body: string
}

export interface DeliveryLimits {
  maxAttempts: number
  /** Of one attempt, from connecting to the answer's headers. */
  timeoutMs: number
  baseDelayMs: number
  maxDelayMs: number
  /** Requests on the wire at once; a delivery that waits for its next attempt does not count. */
  maxConcurrent: number
  maxQueued: number
  maxQueuedBytes: number
  /** How long close() waits for what is on the wire. */
  closeGraceMs: number
}

export interface DeliveryLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** Eight attempts spread over about two minutes: an approval waits five by default. */
export const DELIVERY_LIMITS: DeliveryLimits = {
  maxAttempts: 8,
  timeoutMs: 10_000,
  baseDelayMs: 1_000,
  maxDelayMs: 60_000,
  maxConcurrent: 8,
  maxQueued: 1_000,
  maxQueuedBytes: 16 * 1024 * 1024,
  closeGraceMs: 500
}

/**
 * Sends deliveries to one endpoint, signed, each until it is taken, refused for good, or tried often enough. Whoever
 * enqueues never waits and never hears of a failure; the log does.
 */
export class Deliveries {
  readonly #endpoint: WebhookEndpoint
  readonly #limits: DeliveryLimits
  readonly #log: DeliveryLog
  readonly #lanes = new Map<string, Delivery[]>()
  readonly #workers = new Set<Promise<void>>()
  readonly #attempts = new Set<AbortController>()
  readonly #pauses = new Set<() => void>()
  readonly #slotWaiters: (() => void)[] = []
  #busySlots = 0
  #queued = 0
  #queuedBytes = 0
  #dropped = 0
  #lost = 0
  #state: 'open' | 'closing' | 'aborted' = 'open'

  constructor(endpoint: WebhookEndpoint, log: DeliveryLog, limits: DeliveryLimits = DELIVERY_LIMITS) {
    this.#endpoint = endpoint
    this.#log = log
    this.#limits = limits
  }

  /** Takes a delivery; drops it, with a line in the log, when too many wait or the gateway closes. */
  enqueue(delivery: Delivery): void {
    if (!this.#hasRoomFor(delivery)) {
      this.#drop(delivery)
      return
    }
    this.#dropped = 0
    this.#queued++
    this.#queuedBytes += delivery.body.length
    const lane = this.#lanes.get(delivery.lane)
    if (lane) {
      lane.push(delivery)
      return
    }
    const fresh = [delivery]
    this.#lanes.set(delivery.lane, fresh)
    const worker = this.#work(delivery.lane, fresh).finally(() => this.#workers.delete(worker))
    this.#workers.add(worker)
  }

  /** Gives what waits one last attempt, ends what is still on the wire after the grace. Resolves when nothing runs. */
  async close(): Promise<void> {
    if (this.#state === 'open') this.#state = 'closing'
    for (const wake of this.#pauses) wake()
    const timer = setTimeout(() => {
      this.#state = 'aborted'
      for (const attempt of this.#attempts) attempt.abort(new Error('the gateway shut down'))
    }, this.#limits.closeGraceMs)
    await Promise.all(this.#workers)
    clearTimeout(timer)
    const fields = { webhook: this.#endpoint.id, lost: this.#lost }
    if (this.#lost > 0) this.#log.warn(fields, 'webhook deliveries are lost: the gateway shut down')
    this.#lost = 0
  }

  #hasRoomFor({ body }: Delivery): boolean {
    const { maxQueued, maxQueuedBytes } = this.#limits
    return this.#state === 'open' && this.#queued < maxQueued && this.#queuedBytes + body.length <= maxQueuedBytes
  }

  #drop({ id, type, lane }: Delivery): void {
    // One line for a run of them: the endpoint is down, and every approval would add a line.
    if (this.#dropped++ > 0) return
    const fields = { webhook: this.#endpoint.id, deliveryId: id, type, approvalId: lane, queued: this.#queued }
    this.#log.warn(fields, 'webhook deliveries are dropped: too many wait, or the gateway closes')
  }

  async #work(name: string, lane: Delivery[]): Promise<void> {
    for (let next = lane[0]; next; next = lane[0]) {
      await this.#deliver(next)
      lane.shift()
      this.#queued--
      this.#queuedBytes -= next.body.length
    }
    this.#lanes.delete(name)
  }

  async #deliver(delivery: Delivery): Promise<void> {
    const { id, type, lane } = delivery
    const { maxAttempts } = this.#limits
    for (let attempt = 1; ; attempt++) {
      const isLast = attempt >= maxAttempts || this.#state !== 'open'
      const result = await this.#attemptInSlot(delivery)
      const fields = { webhook: this.#endpoint.id, deliveryId: id, type, approvalId: lane, attempts: attempt }
      if (result.type === 'delivered') {
        if (attempt > 1) this.#log.info(fields, 'webhook delivered after a retry')
        return
      }
      if (!result.canRetry || isLast) {
        if (this.#state === 'aborted') this.#lost++
        else this.#log.warn({ ...fields, reason: result.reason }, 'webhook delivery given up')
        return
      }
      if (attempt === 1) this.#log.info({ ...fields, reason: result.reason }, 'webhook delivery failed, tried again')
      await this.#pause(retryDelayMs(attempt, result.retryAfterMs, this.#limits, Math.random()))
    }
  }

  async #attemptInSlot(delivery: Delivery): Promise<AttemptResult> {
    if (this.#busySlots < this.#limits.maxConcurrent) this.#busySlots++
    else await new Promise<void>((resolve) => this.#slotWaiters.push(resolve))
    try {
      return await this.#attempt(delivery)
    } finally {
      // A slot goes straight to whoever waited longest.
      const next = this.#slotWaiters.shift()
      if (next) next()
      else this.#busySlots--
    }
  }

  /** Never rejects. */
  async #attempt({ id, body }: Delivery): Promise<AttemptResult> {
    const { url, secret } = this.#endpoint
    const { timeoutMs } = this.#limits
    if (this.#state === 'aborted') return failed('the gateway shut down')
    const attempt = new AbortController()
    const timer = setTimeout(() => attempt.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
    this.#attempts.add(attempt)
    try {
      const response = await fetch(url, {
        method: 'POST',
        // A redirect would carry the token to a host that the operator did not name.
        redirect: 'manual',
        signal: attempt.signal,
        headers: {
          'content-type': 'application/json; charset=utf-8',
          'user-agent': 'cloud-codex',
          'x-cloud-codex-delivery': id,
          [SIGNATURE_HEADER]: signBody(secret, body, Date.now())
        },
        body
      })
      // Nothing in the body is needed, and it may never end.
      await response.body?.cancel()
      return judgeAnswer(response.status, response.headers.get('retry-after'), Date.now())
    } catch (error) {
      const { cause, message } = error as Error & { cause?: { code?: string } }
      return failed(cause?.code ?? message)
    } finally {
      clearTimeout(timer)
      this.#attempts.delete(attempt)
    }
  }

  /** Ends early when the gateway closes. */
  #pause(ms: number): Promise<void> {
    if (this.#state !== 'open') return Promise.resolve()
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#pauses.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, ms)
      this.#pauses.add(wake)
    })
  }
}

function failed(reason: string): AttemptResult {
  return { type: 'failed', reason, canRetry: true, retryAfterMs: 0 }
}
