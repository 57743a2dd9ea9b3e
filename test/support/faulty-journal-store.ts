import { StoreUnavailable } from '../../errors.ts'
import type { JournalBounds } from '../../src/journal/journal.ts'
import type { Run } from '../../src/journal/run.ts'
import type { JournalHead, JournalStore, StoredJournal } from '../../src/stores/journal-store.ts'

interface Stored {
  head: JournalHead
  lastSeq: number
  runs: Run[]
}

/**
 * A journal store in memory that fails, hangs and forgets when told to: faults of a store at an exact moment. Real
 * stores are tested in test/stores/.
 */
export class FaultyJournalStore implements JournalStore {
  readonly name = 'segments'
  readonly journals = new Map<string, Stored>()
  isDown = false
  /** Answers wait for this. */
  gate: Promise<void> = Promise.resolve()
  writes = 0

  async load(userId: string): Promise<StoredJournal | undefined> {
    await this.#answer()
    const stored = this.journals.get(userId)
    if (!stored) return undefined
    return { ...stored.head, lastSeq: stored.lastSeq, firstSeq: stored.runs[0]?.firstSeq ?? stored.lastSeq + 1 }
  }

  async putHead(userId: string, { lastSeq, ...head }: JournalHead & { lastSeq: number }): Promise<void> {
    await this.#answer()
    const before = this.journals.get(userId)
    this.journals.set(userId, {
      head: structuredClone(head),
      lastSeq: Math.max(lastSeq, before?.lastSeq ?? 0),
      runs: before?.runs ?? []
    })
  }

  async append(userId: string, runs: readonly Run[], bounds: JournalBounds): Promise<void> {
    await this.#answer()
    this.writes++
    const stored = this.journals.get(userId)
    if (!stored) throw new Error(`append before putHead for ${userId}`)
    for (const run of runs) {
      if (run.lastSeq <= stored.lastSeq) continue
      stored.runs.push({ ...run, frames: Buffer.from(run.frames) })
      stored.lastSeq = run.lastSeq
    }
    stored.runs = stored.runs.filter((run) => run.lastSeq > stored.lastSeq - bounds.maxEvents)
  }

  async read(userId: string, seq: number, maxBytes: number): Promise<Run[]> {
    await this.#answer()
    const found: Run[] = []
    let bytes = 0
    for (const run of this.journals.get(userId)?.runs ?? []) {
      if (run.lastSeq <= seq) continue
      bytes += run.frames.length
      if (found.length > 0 && bytes > maxBytes) break
      found.push(run)
    }
    return found
  }

  async expire(): Promise<void> {}

  async delete(userId: string): Promise<void> {
    this.journals.delete(userId)
  }

  async close(): Promise<void> {}

  async #answer(): Promise<void> {
    await this.gate
    if (this.isDown) throw new StoreUnavailable('the faulty store is down')
  }
}
