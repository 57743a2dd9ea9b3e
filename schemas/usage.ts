import { type Static, Type } from 'typebox'
import { IdSchema, stringEnum, UserIdSchema } from './common.ts'

const Amount = Type.Number({ exclusiveMinimum: 0 })
const DaySchema = Type.String({ pattern: '^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$' })

/** US dollars per million tokens. Cached input without a price of its own costs what other input costs. */
export const PriceSchema = Type.Object(
  {
    input: Type.Number({ minimum: 0 }),
    cachedInput: Type.Optional(Type.Number({ minimum: 0 })),
    output: Type.Number({ minimum: 0 })
  },
  { additionalProperties: false }
)
export type Price = Static<typeof PriceSchema>

/** Days and months are UTC's; tokens are input and output together; cost is in US dollars. */
export const LimitsSchema = Type.Object(
  {
    tokensPerDay: Type.Optional(Amount),
    tokensPerMonth: Type.Optional(Amount),
    costPerDay: Type.Optional(Amount),
    costPerMonth: Type.Optional(Amount),
    requestsPerMinute: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
    concurrentRequests: Type.Optional(Type.Integer({ minimum: 1 }))
  },
  { additionalProperties: false }
)
export type Limits = Static<typeof LimitsSchema>

/** LIMITS_FILE. A user's own values go before the defaults, one by one. `*` is the price of models without one. */
export const LimitsFileSchema = Type.Object(
  {
    prices: Type.Optional(Type.Record(Type.String(), PriceSchema)),
    defaults: Type.Optional(LimitsSchema),
    users: Type.Optional(Type.Record(UserIdSchema, LimitsSchema, { additionalProperties: false }))
  },
  { additionalProperties: false }
)
export type LimitsFile = Static<typeof LimitsFileSchema>

export const BudgetSchema = stringEnum(['tokensPerDay', 'tokensPerMonth', 'costPerDay', 'costPerMonth'])
export type Budget = Static<typeof BudgetSchema>

/** A budget is used up by so many percent: told at 80 and at 100, once each. */
export const UsageLimitSchema = Type.Object({
  budget: BudgetSchema,
  percent: Type.Integer({ description: '80, or 100: further requests to the model are refused' }),
  used: Type.Number(),
  limit: Type.Number(),
  /** When it begins anew. */
  resetsAt: Type.String({ format: 'date-time' })
})
export type UsageLimit = Static<typeof UsageLimitSchema>

const count = (description: string) => Type.Integer({ minimum: 0, description })

/** What one thread took of one model on one day. */
export const UsageRowSchema = Type.Object({
  threadId: Type.Union([IdSchema, Type.Null()], { description: 'null: what codex asked outside of any thread' }),
  model: Type.String(),
  requests: count('Answered requests; one without usage counts, too'),
  inputTokens: count('With those that were cached'),
  cachedInputTokens: count('Of the input'),
  outputTokens: count('With those of reasoning'),
  costUsd: Type.Number({ description: 'By the prices of LIMITS_FILE when it was used; 0 for a model without one' })
})
export type UsageRow = Static<typeof UsageRowSchema>

export const UsageQuerySchema = Type.Object(
  {
    userId: Type.Optional(UserIdSchema),
    from: Type.Optional(Type.Unsafe<string>({ ...DaySchema, description: 'First UTC day; default that of today' })),
    to: Type.Optional(
      Type.Unsafe<string>({ ...DaySchema, description: 'Last UTC day, itself included; default today' })
    )
  },
  { additionalProperties: false }
)

export const UsageSchema = Type.Object(
  {
    rows: Type.Array(Type.Object({ userId: UserIdSchema, day: DaySchema, ...UsageRowSchema.properties })),
    limits: Type.Optional(
      Type.Object(LimitsSchema.properties, { description: 'What the user may use; not for everybody at once' })
    )
  },
  { $id: 'Usage' }
)
export type Usage = Static<typeof UsageSchema>
