import type { JournalStore } from '../stores/journal-store.ts'
import type { JournalBounds } from './journal.ts'

/** What a crash of the gateway may lose is younger than this plus the time of one write. */
const WRITE_INTERVAL_MS = 400
const RETRY_INTERVAL_MS = 1_000

/** A journal with events to write. */
export interface PersistentJournal {
  /** Writes what is not stored yet. Rejects with StoreUnavailable; what was not written stays. */
  persist(): Promise<void>
  /** The store may have lost what it had confirmed: compare before the next write. */
  distrustStore(): void
}

export interface JournalWriterOptions {
  store: JournalStore
  bounds: JournalBounds
  /** The store stopped answering, or answers again. */
  onHealth(isHealthy: boolean, reason: string): void
  /** A stored run cannot be read; it is a gap to whoever comes for it. */
  onDamaged(userId: string, run: { firstSeq: number; lastSeq: number }): void
}

/** Writes the journals of all sessions to the store, off the hot path: every 400 ms those that have something new. */
export class JournalWriter {
  readonly store: JournalStore
  readonly bounds: JournalBounds
  readonly onDamaged: JournalWriterOptions['onDamaged']
  readonly #onHealth: JournalWriterOptions['onHealth']
  readonly #open = new Set<PersistentJournal>()
  readonly #due = new Set<PersistentJournal>()
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined
  #isHealthy = true

  constructor({ store, bounds, onHealth, onDamaged }: JournalWriterOptions) {
    this.store = store
    this.bounds = bounds
    this.onDamaged = onDamaged
    this.#onHealth = onHealth
  }

  get isHealthy(): boolean {
    return this.#isHealthy
  }

  register(journal: PersistentJournal): void {
    this.#open.add(journal)
  }

  unregister(journal: PersistentJournal): void {
    this.#open.delete(journal)
    this.#due.delete(journal)
  }

  /** Has this journal written within the interval. */
  schedule(journal: PersistentJournal): void {
    this.#due.add(journal)
    this.#arm()
  }

  /** Has everything that is due written now: a source waits for it. */
  hurry(): void {
    if (this.#timer === undefined || !this.#isHealthy) return
    clearTimeout(this.#timer)
    this.#startWriting()
  }

  /** To be called when the store was away: it may come back without what it had confirmed last. */
  distrustStore(): void {
    for (const journal of this.#open) {
      journal.distrustStore()
      this.#due.add(journal)
    }
    this.#arm()
  }

  /** Ends the writing; journals persist themselves as they close. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    this.#due.clear()
    await this.#writing
    clearTimeout(this.#timer)
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#writing !== undefined || this.#due.size === 0) return
    this.#timer = setTimeout(() => this.#startWriting(), this.#isHealthy ? WRITE_INTERVAL_MS : RETRY_INTERVAL_MS)
  }

  #startWriting(): void {
    this.#timer = undefined
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined
      this.#arm()
    })
  }

  async #write(): Promise<void> {
    const due = [...this.#due]
    this.#due.clear()
    const results = await Promise.allSettled(due.map((journal) => journal.persist()))
    let reason = ''
    results.forEach((result, index) => {
      if (result.status === 'fulfilled') return
      reason = (result.reason as Error).message
      this.#due.add(due[index] as PersistentJournal)
    })
    this.#setHealth(reason === '', reason)
  }

  #setHealth(isHealthy: boolean, reason: string): void {
    if (isHealthy === this.#isHealthy) return
    this.#isHealthy = isHealthy
    this.#onHealth(isHealthy, reason)
    if (isHealthy) this.distrustStore()
  }
}
