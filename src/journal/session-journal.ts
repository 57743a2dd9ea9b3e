import { randomBytes } from 'node:crypto'
import type { JournalHead, StoredJournal } from '../stores/journal-store.ts'
import { countFrames, skipFrames } from './frames.ts'
import type { Journal, JournalPosition } from './journal.ts'
import { JournalTail } from './journal-tail.ts'
import type { JournalWriter } from './journal-writer.ts'
import type { Run } from './run.ts'

/** One write to the store. */
const WRITE_BYTES = 4 * 1024 * 1024
/** What is not stored yet may take this much memory. Within narrower bounds the oldest goes before that… */
const MAX_UNWRITTEN_BYTES = 32 * 1024 * 1024
/** …within wider ones codex waits for the store, from here on. */
const PRESSURE_BYTES = 16 * 1024 * 1024
/** Stored events stay in memory too, so far: reconnects after a moment are served from here… */
const KEEP_BYTES = 128 * 1024
/** …and a Redis that was killed may have lost its last second. */
const KEEP_MS = 3_000
const MAX_KEEP_BYTES = 8 * 1024 * 1024
/** Crashes of the gateway that clients can resume across. */
const MAX_LINEAGE = 32

export interface SessionJournalOptions {
  userId: string
  writer: JournalWriter
  /** Whether the source has to wait: the store does not keep up. */
  onPressure(isHigh: boolean): void
}

interface Head extends JournalHead {
  lastSeq: number
}

/** A session's journal: a tail in memory, everything within the bounds in the store. */
export class SessionJournal implements Journal {
  readonly #userId: string
  readonly #writer: JournalWriter
  readonly #onPressure: (isHigh: boolean) => void
  readonly #head: Head
  readonly #tail = new JournalTail(() => this.#haveClientsSentAll())
  #haveClientsSentAll = () => false
  #lastSeq: number
  #storedSeq: number
  #isScheduled = false
  #isDistrusted = false
  #isPressing = false
  #isClosing = false
  #persisting: Promise<void> | undefined

  private constructor({ userId, writer, onPressure }: SessionJournalOptions, head: Head) {
    this.#userId = userId
    this.#writer = writer
    this.#onPressure = onPressure
    this.#head = head
    this.#lastSeq = head.lastSeq
    this.#storedSeq = head.lastSeq
    writer.register(this)
  }

  /** Opens the user's stored journal, or begins one. Rejects with StoreUnavailable. */
  static async open(options: SessionJournalOptions): Promise<SessionJournal> {
    const { userId, writer } = options
    const head = openHead(await writer.store.load(userId), randomBytes(8).toString('hex'))
    await writer.store.putHead(userId, head)
    return new SessionJournal(options, head)
  }

  get epoch(): string {
    return this.#head.epoch
  }

  get lastSeq(): number {
    return this.#lastSeq
  }

  /** Appends one event; its payload is JSON text, `bytes` from `start` to `end`, and copied. Returns its number. */
  append(type: string, bytes: Buffer, start: number, end: number): number {
    const seq = ++this.#lastSeq
    if (this.#tail.append(seq, type, bytes, start, end)) this.#bound()
    this.#schedule()
    return seq
  }

  /**
   * Says who knows whether all frames of {@link takeNew} have left the process. Who stops watching a client that has
   * not sent all calls {@link holdTaken}.
   */
  watchClients(haveSentAll: () => boolean): void {
    this.#haveClientsSentAll = haveSentAll
  }

  /** Frames that were taken are still being sent, and nobody will know when they are. */
  holdTaken(): void {
    this.#tail.hold(this.#lastSeq)
  }

  takeNew(): Run[] {
    return this.#tail.takeNew(Date.now())
  }

  read(seq: number, maxBytes: number): Run[] | Promise<Run[]> {
    const held = this.#tail.firstSeq ?? this.#lastSeq + 1
    return held <= seq + 1 ? this.#tail.read(seq, maxBytes) : this.#readStored(seq, maxBytes)
  }

  locate({ epoch, since }: JournalPosition): number | undefined {
    if (epoch === this.epoch) return since <= this.#lastSeq ? since : undefined
    const ended = this.#head.lineage.find((before) => before.epoch === epoch)
    return ended && Math.min(since, ended.lastSeq)
  }

  persist(): Promise<void> {
    this.#isScheduled = false
    this.#persisting ??= this.#persist().finally(() => {
      this.#persisting = undefined
    })
    return this.#persisting
  }

  distrustStore(): void {
    this.#isDistrusted = true
  }

  /** Writes what is left and says that nothing is missing. Rejects with StoreUnavailable; the next epoch is new then. */
  async close(): Promise<void> {
    this.#isClosing = true
    this.#writer.unregister(this)
    await this.#persisting?.catch(() => {})
    await this.persist()
    await this.#writer.store.putHead(this.#userId, { ...this.#head, isOpen: false, lastSeq: this.#lastSeq })
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    this.#writer.schedule(this)
  }

  async #readStored(seq: number, maxBytes: number): Promise<Run[]> {
    const oldestMs = Date.now() - this.#writer.bounds.maxAgeMs
    for (let cursor = seq; ; ) {
      const runs = await this.#writer.store.read(this.#userId, cursor, maxBytes)
      const last = runs.at(-1)
      if (last === undefined) return this.#tail.read(seq, maxBytes)
      const found = runs.filter((run) => run.atMs >= oldestMs && this.#isWhole(run))
      if (found.length > 0) return found.map((run) => runAfter(run, seq))
      // None of these can be had; what comes behind them can.
      cursor = last.lastSeq
    }
  }

  /** A damaged run would go out as it is, and end the connection of every client that comes for it. */
  #isWhole(run: Run): boolean {
    if (countFrames(run.frames) === run.lastSeq - run.firstSeq + 1) return true
    this.#writer.onDamaged(this.#userId, run)
    return false
  }

  async #persist(): Promise<void> {
    const { store, bounds } = this.#writer
    try {
      if (this.#isDistrusted) await this.#compare()
      while (this.#storedSeq < this.#lastSeq) {
        const runs = this.#tail.borrow(this.#storedSeq, WRITE_BYTES)
        const lastSeq = runs.at(-1)?.lastSeq ?? this.#lastSeq
        await store.append(this.#userId, runs, bounds)
        this.#tail.giveBack(true)
        this.#storedSeq = lastSeq
        this.#release()
      }
      this.#release()
      // Once more, when what is kept for a moment has become old; a journal that is closed is gone by then.
      if (this.#tail.bytes > KEEP_BYTES && !this.#isClosing) this.#schedule()
      else this.#tail.clearFree()
    } catch (error) {
      // It may have lost what it had confirmed, the beginning of the journal included.
      this.#isDistrusted = true
      // A write that failed may go out all the same, when the store is back.
      this.#tail.giveBack(false)
      // A source that waits for a store that is away would wait for as long; from here on the oldest goes instead.
      this.#press(false)
      throw error
    }
  }

  /** The store was away. What it no longer has is written again as far as it is still in memory. */
  async #compare(): Promise<void> {
    const { store } = this.#writer
    const stored = await store.load(this.#userId)
    const firstHeld = this.#tail.firstSeq ?? this.#lastSeq + 1
    const storedSeq = Math.min(stored?.lastSeq ?? 0, this.#storedSeq)
    if (stored === undefined || storedSeq < this.#storedSeq) {
      this.#storedSeq = Math.max(storedSeq, firstHeld - 1)
      await store.putHead(this.#userId, { ...this.#head, isOpen: true, lastSeq: this.#storedSeq })
    }
    this.#isDistrusted = false
  }

  #release(): void {
    const oldestMs = Date.now() - KEEP_MS
    this.#tail.dropWhile(
      ({ lastSeq, atMs }, bytesHeld) =>
        lastSeq <= this.#storedSeq && bytesHeld > KEEP_BYTES && (atMs < oldestMs || bytesHeld > MAX_KEEP_BYTES)
    )
    if (this.#isPressing && this.#tail.bytesAfter(this.#storedSeq) < PRESSURE_BYTES / 2) this.#press(false)
  }

  /** Drops what is beyond the bounds, and keeps what waits for the store within its own. */
  #bound(): void {
    const { maxEvents, maxBytes } = this.#writer.bounds
    const oldestSeq = this.#lastSeq - maxEvents
    this.#tail.dropWhile(({ lastSeq }, bytesHeld) => lastSeq <= oldestSeq || bytesHeld > maxBytes)
    if (maxBytes <= MAX_UNWRITTEN_BYTES) return
    const unwrittenBytes = this.#tail.bytesAfter(this.#storedSeq)
    if (this.#writer.isHealthy) {
      if (unwrittenBytes > PRESSURE_BYTES) this.#press(true)
    } else if (unwrittenBytes > MAX_UNWRITTEN_BYTES) {
      this.#tail.dropWhile((_block, bytesHeld) => bytesHeld > MAX_UNWRITTEN_BYTES)
    }
  }

  #press(isHigh: boolean): void {
    if (isHigh === this.#isPressing) return
    this.#isPressing = isHigh
    this.#onPressure(isHigh)
    if (isHigh) this.#writer.hurry()
  }
}

/** What a journal that was not closed may have lost is one number that nobody can have: a hole, told as a gap. */
function openHead(stored: StoredJournal | undefined, newEpoch: string): Head {
  if (stored === undefined) return { epoch: newEpoch, lineage: [], isOpen: true, lastSeq: 0 }
  const { epoch, lineage, lastSeq } = stored
  if (!stored.isOpen) return { epoch, lineage, isOpen: true, lastSeq }
  return {
    epoch: newEpoch,
    lineage: [...lineage, { epoch, lastSeq }].slice(-MAX_LINEAGE),
    isOpen: true,
    lastSeq: lastSeq + 1
  }
}

/** The part of a run after a number. */
function runAfter(run: Run, seq: number): Run {
  if (run.firstSeq > seq) return run
  const frames = run.frames.subarray(skipFrames(run.frames, 0, seq - run.firstSeq + 1))
  return { ...run, firstSeq: seq + 1, frames }
}
