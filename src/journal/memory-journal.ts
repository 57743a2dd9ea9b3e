import { randomBytes } from 'node:crypto'
import type { Journal, JournalBounds, JournalEntry } from './journal.ts'

interface StoredEntry extends JournalEntry {
  readonly atMs: number
}

const CLOSE_BRACE = Buffer.from('}')
/** Dropped entries are cut from the array in runs of this many, so that a drop costs O(1) on average. */
const COMPACT_AFTER = 1024

/** A journal in memory, bounded in events, bytes and age; the oldest go first. */
export class MemoryJournal implements Journal {
  readonly epoch = randomBytes(8).toString('hex')
  readonly #bounds: JournalBounds
  #entries: StoredEntry[] = []
  /** Index of the oldest entry still held; those before it are dropped but not yet cut off. */
  #head = 0
  #bytes = 0
  #lastSeq = 0

  constructor(bounds: JournalBounds) {
    this.#bounds = bounds
  }

  get lastSeq(): number {
    return this.#lastSeq
  }

  get firstSeq(): number {
    return this.#entries[this.#head]?.seq ?? this.#lastSeq + 1
  }

  append(type: string, payload: Buffer): JournalEntry {
    const seq = ++this.#lastSeq
    const open = Buffer.from(`{"type":"${type}","seq":${seq},"payload":`, 'latin1')
    // A copy, not a view: a view would keep the pipe's whole read buffer alive for as long as the entry.
    const message = Buffer.concat([open, payload, CLOSE_BRACE])
    const entry = { seq, message, atMs: Date.now() }
    this.#entries.push(entry)
    this.#bytes += message.length
    this.#drop(entry.atMs)
    return entry
  }

  readAfter(seq: number, maxBytes: number): JournalEntry[] | undefined {
    if (seq + 1 < this.firstSeq) return undefined
    const read: JournalEntry[] = []
    let bytes = 0
    for (let index = this.#head + (seq + 1 - this.firstSeq); index < this.#entries.length; index++) {
      const entry = this.#entries[index] as StoredEntry
      bytes += entry.message.length
      if (read.length > 0 && bytes > maxBytes) break
      read.push(entry)
    }
    return read
  }

  #drop(nowMs: number): void {
    const { maxEvents, maxBytes, maxAgeMs } = this.#bounds
    let oldest = this.#entries[this.#head]
    while (
      oldest !== undefined &&
      (this.#entries.length - this.#head > maxEvents || this.#bytes > maxBytes || nowMs - oldest.atMs > maxAgeMs)
    ) {
      this.#bytes -= oldest.message.length
      this.#head++
      oldest = this.#entries[this.#head]
    }
    if (this.#head >= COMPACT_AFTER && this.#head * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
  }
}
