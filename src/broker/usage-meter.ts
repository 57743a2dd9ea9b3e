import { BudgetExceeded, ModelBusy, withDetails } from '../../errors.ts'
import type { Budget, Limits, UsageLimit } from '../../schemas/usage.ts'
import type { LimitsBook } from './limits-file.ts'
import { roundUsd, type Totals, type UsageLedger, utcDay } from './usage-ledger.ts'
import type { ModelUsage } from './usage-scanner.ts'

const MINUTE_MS = 60_000
const TOLD_PERCENTS = [80, 100]
/** codex tries again five times: long enough for an answer to end meanwhile. */
const BUSY_RETRY_S = 5
const BUDGETS: readonly Budget[] = ['tokensPerDay', 'tokensPerMonth', 'costPerDay', 'costPerMonth']

export interface UsageMeterOptions {
  ledger: UsageLedger
  limits: LimitsBook
  /** A budget has reached one of the told percents. Must not throw. */
  onLimit(userId: string, limit: UsageLimit): void
  onProblem(userId: string, error: Error): void
}

export interface MeteredRequest {
  userId: string
  threadId: string | null
}

/** A request that was let through; `end` has to be called once. */
export interface Admission {
  /** @param usage undefined: the endpoint has not said it, or there was no answer */
  end(model: string, usage: ModelUsage | undefined): void
}

interface Pace {
  running: number
  /** When the requests of the last minute began. */
  startsMs: number[]
  /** Which percents of which budget and period the user has heard of. */
  told: Set<string>
}

/** Lets requests to the model through as the limits say, and counts what they take. */
export class UsageMeter {
  readonly #options: UsageMeterOptions
  readonly #paces = new Map<string, Pace>()

  constructor(options: UsageMeterOptions) {
    this.#options = options
  }

  /** Throws BudgetExceeded or ModelBusy; StoreUnavailable when it is not known what has been used. */
  async admit({ userId, threadId }: MeteredRequest, nowMs = Date.now()): Promise<Admission> {
    const limits = this.#options.limits.limitsOf(userId)
    for (const state of await this.#budgets(userId, limits, nowMs)) if (state.percent >= 100) throw exceeded(state)
    const pace = this.#pace(userId)
    this.#checkPace(pace, limits, nowMs)
    pace.running++
    return {
      end: (model, usage) => {
        pace.running--
        if (usage) void this.#count(userId, threadId, usage.model ?? model, usage)
      }
    }
  }

  async #count(userId: string, threadId: string | null, model: string, usage: ModelUsage): Promise<void> {
    const { ledger, limits, onLimit, onProblem } = this.#options
    const nowMs = Date.now()
    const { model: _model, ...tokens } = usage
    try {
      const ofUser = limits.limitsOf(userId)
      // What was told before a restart is not told again.
      for (const state of await this.#budgets(userId, ofUser, nowMs)) this.#news(userId, state)
      const costUsd = limits.costOf(model, usage)
      await ledger.add(userId, { threadId, model, requests: 1, ...tokens, costUsd }, nowMs)
      for (const state of await this.#budgets(userId, ofUser, nowMs)) {
        for (const percent of this.#news(userId, state)) onLimit(userId, { ...state, percent })
      }
    } catch (error) {
      onProblem(userId, error as Error)
    }
  }

  async #budgets(userId: string, limits: Limits, nowMs: number): Promise<UsageLimit[]> {
    const totals = await this.#options.ledger.totals(userId, nowMs)
    return BUDGETS.flatMap((budget) => {
      const limit = limits[budget]
      if (limit === undefined) return []
      const used = usedOf(budget, budget.endsWith('Day') ? totals.day : totals.month)
      return [{ budget, percent: Math.floor((used / limit) * 100), used, limit, resetsAt: resetOf(budget, nowMs) }]
    })
  }

  /** The percents that the user has not heard of; from here on the user has. */
  #news(userId: string, { budget, percent, resetsAt }: UsageLimit): number[] {
    const { told } = this.#pace(userId)
    return TOLD_PERCENTS.filter((mark) => {
      const key = `${budget} ${mark} ${resetsAt}`
      const isNew = percent >= mark && !told.has(key)
      if (isNew) told.add(key)
      return isNew
    })
  }

  #checkPace(pace: Pace, { requestsPerMinute, concurrentRequests }: Limits, nowMs: number): void {
    if (concurrentRequests !== undefined && pace.running >= concurrentRequests) {
      throw busy(`${concurrentRequests} at once`, BUSY_RETRY_S)
    }
    if (requestsPerMinute === undefined) return
    pace.startsMs = pace.startsMs.filter((startMs) => startMs > nowMs - MINUTE_MS)
    const oldestMs = pace.startsMs.at(-requestsPerMinute)
    if (oldestMs !== undefined) {
      throw busy(`${requestsPerMinute} per minute`, Math.ceil((oldestMs + MINUTE_MS - nowMs) / 1000))
    }
    pace.startsMs.push(nowMs)
  }

  #pace(userId: string): Pace {
    const known = this.#paces.get(userId)
    if (known) return known
    const pace = { running: 0, startsMs: [], told: new Set<string>() }
    this.#paces.set(userId, pace)
    return pace
  }
}

function usedOf(budget: Budget, { tokens, costUsd }: Totals): number {
  return budget.startsWith('tokens') ? tokens : roundUsd(costUsd)
}

/** When the period of a budget ends. */
function resetOf(budget: Budget, nowMs: number): string {
  const [year = 0, month = 0, day = 0] = utcDay(nowMs).split('-').map(Number)
  const next = budget.endsWith('Day') ? Date.UTC(year, month - 1, day + 1) : Date.UTC(year, month, 1)
  return new Date(next).toISOString()
}

function exceeded(state: UsageLimit): Error {
  const { budget, used, limit, resetsAt } = state
  return withDetails(new BudgetExceeded(budget, `${used} of ${limit}`, resetsAt), { budget, used, limit, resetsAt })
}

function busy(what: string, retryAfter: number): Error {
  return withDetails(new ModelBusy(what), { retryAfter })
}
