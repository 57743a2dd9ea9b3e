import { readFile } from 'node:fs/promises'
import { Compile } from 'typebox/compile'
import { ConfigInvalid } from '../../errors.ts'
import { type Limits, type LimitsFile, LimitsFileSchema, type Price } from '../../schemas/usage.ts'
import type { ModelUsage } from './usage-scanner.ts'

const validator = Compile(LimitsFileSchema)
const MILLION = 1_000_000
/** The price of a model without one of its own. */
const ANY_MODEL = '*'

/** Prices, and what each user may use. */
export class LimitsBook {
  readonly #file: LimitsFile

  constructor(file: LimitsFile = {}) {
    this.#file = file
  }

  /** @throws ConfigInvalid naming the first fault */
  static async read(path: string | undefined): Promise<LimitsBook> {
    if (path === undefined) return new LimitsBook()
    let file: unknown
    try {
      file = JSON.parse(await readFile(path, 'utf8'))
    } catch (error) {
      throw new ConfigInvalid(`LIMITS_FILE ${path} is not readable: ${(error as Error).message}`)
    }
    if (!validator.Check(file)) {
      const [first] = validator.Errors(file)
      throw new ConfigInvalid(`LIMITS_FILE ${path}${first?.instancePath ?? ''}: ${first?.message ?? 'does not fit'}`)
    }
    const all = [file.defaults ?? {}, ...Object.values(file.users ?? {})]
    const hasCost = all.some(({ costPerDay, costPerMonth }) => (costPerDay ?? costPerMonth) !== undefined)
    // A model that nobody has given a price would cost nothing, whatever the budget.
    if (hasCost && file.prices?.[ANY_MODEL] === undefined) {
      throw new ConfigInvalid(`LIMITS_FILE ${path}: costPerDay and costPerMonth need a price for "${ANY_MODEL}"`)
    }
    return new LimitsBook(file)
  }

  limitsOf(userId: string): Limits {
    const { defaults, users } = this.#file
    return { ...defaults, ...(users && Object.hasOwn(users, userId) ? users[userId] : {}) }
  }

  /** In US dollars. */
  costOf(model: string, { inputTokens, cachedInputTokens, outputTokens }: Omit<ModelUsage, 'model'>): number {
    const price = this.#priceOf(model)
    if (!price) return 0
    const cached = Math.min(cachedInputTokens, inputTokens)
    const input = (inputTokens - cached) * price.input + cached * (price.cachedInput ?? price.input)
    return (input + outputTokens * price.output) / MILLION
  }

  #priceOf(model: string): Price | undefined {
    const { prices = {} } = this.#file
    return Object.hasOwn(prices, model) ? prices[model] : prices[ANY_MODEL]
  }
}
