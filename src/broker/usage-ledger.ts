import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { type Usage, type UsageRow, UsageRowSchema } from '../../schemas/usage.ts'
import type { JsonValue } from '../json.ts'
import type { DocumentStore } from '../stores/document-store.ts'
import { DocumentWriter } from '../stores/document-writer.ts'

const COLLECTION = 'usage'
/** No user id has one: the ids of one user's documents begin with no other's. */
const SEPARATOR = '/'
const MONTH_CHARS = 'YYYY-MM'.length
/** Rows of a day; what comes after goes to one row without a thread per model. */
const MAX_ROWS = 1_000

const checkDay = Compile(Type.Object({ rows: Type.Array(UsageRowSchema) }))

export interface Totals {
  tokens: number
  costUsd: number
}

/** What a user has used, today and in the month that today is of. */
interface Account {
  day: string
  rows: UsageRow[]
  /** Of the month, without today. */
  before: Totals
}

/** Usage per user, UTC day, thread and model; in memory for today, in the store for all days. */
export class UsageLedger {
  readonly #documents: DocumentStore
  readonly #writer: DocumentWriter
  readonly #accounts = new Map<string, Promise<Account>>()

  /** @param onProblem hears of writes that failed. Must not throw. */
  constructor(documents: DocumentStore, onProblem: (error: Error) => void) {
    this.#documents = documents
    this.#writer = new DocumentWriter(documents, onProblem)
  }

  /** Adds to the user's day. Written behind the caller's back: the newest state of the day, one write at a time. */
  async add(userId: string, added: UsageRow, nowMs: number): Promise<void> {
    const account = await this.#account(userId, nowMs)
    const threadId = account.rows.length < MAX_ROWS ? added.threadId : null
    const row = account.rows.find((known) => known.threadId === threadId && known.model === added.model)
    if (row) {
      row.requests += added.requests
      row.inputTokens += added.inputTokens
      row.cachedInputTokens += added.cachedInputTokens
      row.outputTokens += added.outputTokens
      row.costUsd += added.costUsd
    } else account.rows.push({ ...added, threadId })
    const value = JSON.parse(JSON.stringify({ rows: account.rows })) as JsonValue
    void this.#writer.write(COLLECTION, `${userId}${SEPARATOR}${account.day}`, value)
  }

  /** Rejects with StoreUnavailable when the user's month is not known and cannot be read. */
  async totals(userId: string, nowMs: number): Promise<{ day: Totals; month: Totals }> {
    const { rows, before } = await this.#account(userId, nowMs)
    const day = sum(rows)
    return { day, month: { tokens: before.tokens + day.tokens, costUsd: before.costUsd + day.costUsd } }
  }

  /** @param userId undefined: everybody. Days as YYYY-MM-DD, both included. */
  async query(userId: string | undefined, from: string, to: string): Promise<Usage['rows']> {
    const prefix = userId === undefined ? '' : `${userId}${SEPARATOR}`
    const days = await this.#documents.list(COLLECTION, prefix)
    return days.flatMap(({ id, value }) => {
      const [owner = '', day = ''] = id.split(SEPARATOR)
      if (day < from || day > to) return []
      return readRows(value).map((row) => ({ userId: owner, day, ...row, costUsd: roundUsd(row.costUsd) }))
    })
  }

  /** Writes what is not written yet, within a bound. */
  close(): Promise<void> {
    return this.#writer.close()
  }

  async #account(userId: string, nowMs: number): Promise<Account> {
    const today = utcDay(nowMs)
    let loading = this.#accounts.get(userId)
    if (!loading) {
      loading = this.#load(userId, today)
      this.#accounts.set(userId, loading)
      loading.catch(() => this.#accounts.delete(userId))
    }
    const account = await loading
    if (account.day !== today) turnDay(account, today)
    return account
  }

  async #load(userId: string, today: string): Promise<Account> {
    const month = today.slice(0, MONTH_CHARS)
    const days = await this.#documents.list(COLLECTION, `${userId}${SEPARATOR}${month}`)
    const account: Account = { day: today, rows: [], before: { tokens: 0, costUsd: 0 } }
    for (const { id, value } of days) {
      const rows = readRows(value)
      if (id.endsWith(today)) account.rows = rows
      else addTotals(account.before, sum(rows))
    }
    return account
  }
}

/** `YYYY-MM-DD` in UTC. */
export function utcDay(nowMs: number): string {
  return new Date(nowMs).toISOString().slice(0, 'YYYY-MM-DD'.length)
}

/** To the millionth of a dollar: sums of fractions are no longer exact. */
export function roundUsd(costUsd: number): number {
  return Math.round(costUsd * 1e6) / 1e6
}

function turnDay(account: Account, today: string): void {
  if (account.day.slice(0, MONTH_CHARS) === today.slice(0, MONTH_CHARS)) addTotals(account.before, sum(account.rows))
  else account.before = { tokens: 0, costUsd: 0 }
  account.rows = []
  account.day = today
}

function sum(rows: readonly UsageRow[]): Totals {
  const totals = { tokens: 0, costUsd: 0 }
  for (const { inputTokens, outputTokens, costUsd } of rows) {
    addTotals(totals, { tokens: inputTokens + outputTokens, costUsd })
  }
  return totals
}

function addTotals(to: Totals, { tokens, costUsd }: Totals): void {
  to.tokens += tokens
  to.costUsd += costUsd
}

/** A day that is not readable counts as an empty one. */
function readRows(value: JsonValue): UsageRow[] {
  return checkDay.Check(value) ? value.rows : []
}
