import { setImmediate as nextLoop } from 'node:timers/promises'
import { Folds, type SeqRange, withReplaces } from './compact.ts'
import { messagesIn } from './frames.ts'
import type { Journal } from './journal.ts'

export interface EventPageOptions {
  afterSeq: number
  /** Events in the page, at most; 1 or more. */
  limit: number
  /** Increments of items that were completed within the page are left out; see CompactReplay. */
  isCompact: boolean
  /** The message as the reader gets it; undefined: not for this reader. */
  pass(message: Buffer): Buffer | undefined
}

export interface EventPage {
  messages: Buffer[]
  /** The next page begins after this number. */
  nextSeq: number
  /** Events before the first of this page that are gone. */
  gap?: SeqRange
}

interface Entry {
  seq: number
  message: Buffer
}

interface Window {
  entries: Entry[]
  /** Everything up to here was looked at. */
  endSeq: number
  gap?: SeqRange
}

/** What one page may look at: it bounds the answer, and the time that a reader of one thread of many costs. */
const WINDOW_BYTES = 4 * 1024 * 1024
const READ_BYTES = 256 * 1024

/**
 * One page of the journal. A page can be short, or empty, and not the last: that one ends where the journal ends. Rejects
 * with StoreUnavailable.
 */
export async function readEventPage(journal: Journal, options: EventPageOptions): Promise<EventPage> {
  const { afterSeq, limit, isCompact, pass } = options
  const { entries, endSeq, gap } = await readWindow(
    journal,
    afterSeq,
    isCompact ? Number.POSITIVE_INFINITY : limit,
    pass
  )
  const whole = gap === undefined ? {} : { gap }
  if (!isCompact) return { messages: entries.map(({ message }) => message), nextSeq: endSeq, ...whole }
  const count = countWithin(entries, limit)
  const nextSeq = count === entries.length ? endSeq : (entries[count - 1] as Entry).seq
  return { messages: foldEntries(entries.slice(0, count)), nextSeq, ...whole }
}

async function readWindow(
  journal: Journal,
  afterSeq: number,
  maxEntries: number,
  pass: EventPageOptions['pass']
): Promise<Window> {
  const { lastSeq } = journal
  const window: Window = { entries: [], endSeq: afterSeq }
  for (let bytes = 0; window.endSeq < lastSeq && bytes < WINDOW_BYTES; await nextLoop()) {
    const runs = await journal.read(window.endSeq, READ_BYTES)
    if (runs.length === 0) skipTo(window, lastSeq, afterSeq)
    for (const { firstSeq, frames } of runs) {
      if (firstSeq > window.endSeq + 1 && !skipTo(window, firstSeq - 1, afterSeq)) return window
      for (const message of messagesIn(frames)) {
        const shown = pass(message)
        window.endSeq++
        if (shown && window.entries.push({ seq: window.endSeq, message: shown }) >= maxEntries) return window
      }
      bytes += frames.length
    }
    if (runs.length === 0) break
  }
  return window
}

/** Notes a gap up to `seq`, if it is the beginning of the page; else the page ends before it. */
function skipTo(window: Window, seq: number, afterSeq: number): boolean {
  if (window.endSeq > afterSeq) return false
  window.gap = { from: afterSeq + 1, to: seq }
  window.endSeq = seq
  return true
}

/** How many of the entries make a page of no more than `limit`, when it is folded within itself. */
function countWithin(entries: readonly Entry[], limit: number): number {
  const folds = new Folds()
  let count = 0
  entries.forEach(({ seq, message }, index) => {
    folds.add(message, seq)
    if (index + 1 - folds.leftOut <= limit) count = index + 1
  })
  return count
}

/** An item that ends on a later page is folded there, and its increments of this page are on this page. */
function foldEntries(entries: readonly Entry[]): Buffer[] {
  const folds = new Folds()
  for (const { seq, message } of entries) folds.add(message, seq)
  return entries.flatMap(({ seq, message }) => {
    if (folds.isLeftOut(message, seq)) return []
    const range = folds.replacedBy(seq)
    return range ? withReplaces(message, seq, range) : message
  })
}
