import { setImmediate as nextLoop } from 'node:timers/promises'
import { asObject, asText, type JsonObject, type JsonValue } from '../json.ts'
import { headerLength, messagesIn, writeHeader } from './frames.ts'
import type { Journal } from './journal.ts'
import type { Run } from './run.ts'

/** Numbers from … to, both included. */
export interface SeqRange {
  from: number
  to: number
}

/**
 * The increments of an item that its completed form makes superfluous, each with the field of the item that holds the
 * whole. Source: ServerNotification of codex 0.169; the test compares. What the completed item does not hold
 * (`item/mcpToolCall/progress`, `item/commandExecution/terminalInteraction`) is not here.
 */
export const INCREMENTS: Readonly<Record<string, string>> = {
  'item/agentMessage/delta': 'text',
  'item/plan/delta': 'text',
  'item/reasoning/summaryPartAdded': 'summary',
  'item/reasoning/summaryTextDelta': 'summary',
  'item/reasoning/textDelta': 'content',
  'item/commandExecution/outputDelta': 'aggregatedOutput',
  'item/fileChange/patchUpdated': 'changes'
}

const METHODS = new Map(Object.entries(INCREMENTS))
const COMPLETED = 'item/completed'
const EVENT_HEAD = '{"type":"event","seq":'
const BEFORE_METHOD = ',"payload":{"method":"'
const ITEM_EVENT = Buffer.from(`${BEFORE_METHOD}item/`)
const ITEM_ID = Buffer.from('","itemId":"')
const QUOTE = 0x22
const BACKSLASH = 0x5c
/** Read at once, between two turns of the event loop. */
const SCAN_BYTES = 256 * 1024

interface OpenItem extends SeqRange {
  count: number
}

/** Which increments can be left out, and which completed items stand for them. Grows with items, not with events. */
export class Folds {
  /** Increments since the item's last completion, by item and method. */
  readonly #open = new Map<string, OpenItem>()
  readonly #closed = new Map<string, SeqRange[]>()
  readonly #replaces = new Map<number, SeqRange>()
  readonly #keys = new KeyReader()
  #leftOut = 0

  /** How many of the events so far can be left out. */
  get leftOut(): number {
    return this.#leftOut
  }

  /** Takes the next event, in order. */
  add(message: Buffer, seq: number): void {
    const key = this.#keys.read(message, seq)
    if (key === undefined) return
    if (key === COMPLETED) {
      this.#complete(message, seq)
      return
    }
    const open = this.#open.get(key)
    if (open) {
      open.to = seq
      open.count++
    } else this.#open.set(key, { from: seq, to: seq, count: 1 })
  }

  /** Whether this event is an increment whose item was completed behind it. */
  isLeftOut(message: Buffer, seq: number): boolean {
    const key = this.#keys.read(message, seq)
    if (key === undefined) return false
    return this.#closed.get(key)?.some(({ from, to }) => from <= seq && seq <= to) ?? false
  }

  /** The increments that this event stands for. */
  replacedBy(seq: number): SeqRange | undefined {
    return this.#replaces.get(seq)
  }

  #complete(message: Buffer, seq: number): void {
    const params = readParams(message)
    const item = asObject(params.item)
    for (const [method, field] of METHODS) {
      const key = keyOf(method, params, asText(item.id))
      const open = this.#open.get(key)
      // An item that does not hold the whole (output that nobody kept) cannot stand for its parts.
      if (!open || !holdsSomething(item[field])) continue
      const { from, to, count } = open
      this.#open.delete(key)
      this.#closed.set(key, [...(this.#closed.get(key) ?? []), { from, to }])
      const known = this.#replaces.get(seq)
      this.#replaces.set(seq, { from: Math.min(from, known?.from ?? from), to: Math.max(to, known?.to ?? to) })
      this.#leftOut += count
    }
  }
}

/**
 * The journal from behind `afterSeq` to `untilSeq` as a compact replay shows it, to be read like the journal: increments
 * of completed items are left out, and `replaces` beside the completed item's number says which. The numbers of what
 * comes back and the ranges it replaces are all numbers; a run may be without frames.
 */
export class CompactReplay implements Pick<Journal, 'read'> {
  readonly untilSeq: number
  readonly #journal: Pick<Journal, 'read'>
  readonly #afterSeq: number
  #folds: Folds | undefined

  constructor(journal: Pick<Journal, 'read'>, afterSeq: number, untilSeq: number) {
    this.#journal = journal
    this.#afterSeq = afterSeq
    this.untilSeq = untilSeq
  }

  /** As {@link Journal.read}; the first call reads everything once to learn which items were completed. */
  async read(seq: number, maxBytes: number): Promise<Run[]> {
    // What is left out never fills the reader's socket: nothing else would let other work in.
    await nextLoop()
    this.#folds ??= await findFolds(this.#journal, this.#afterSeq, this.untilSeq)
    const folds = this.#folds
    return (await this.#journal.read(seq, maxBytes)).map((run) => foldRun(run, folds))
  }
}

/**
 * Reads the journal from behind `afterSeq` to `untilSeq` and says what a compact replay of it leaves out. Lets other
 * work in between pieces. Rejects with StoreUnavailable.
 */
async function findFolds(journal: Pick<Journal, 'read'>, afterSeq: number, untilSeq: number): Promise<Folds> {
  const folds = new Folds()
  for (let seq = afterSeq; seq < untilSeq; ) {
    const runs = await journal.read(seq, SCAN_BYTES)
    if (runs.length === 0) break
    for (const run of runs) {
      seq = run.firstSeq
      for (const message of messagesIn(run.frames)) {
        if (seq <= untilSeq) folds.add(message, seq)
        seq++
      }
      seq = run.lastSeq
    }
    await nextLoop()
  }
  return folds
}

/** A run of the journal as a compact replay shows it: of the same numbers, with what `folds` leaves of its frames. */
function foldRun(run: Run, folds: Folds): Run {
  const { frames, firstSeq } = run
  const parts: Buffer[] = []
  /** Where the frames begin that are kept as they are, and not in `parts` yet. */
  let kept = 0
  let start = 0
  let seq = firstSeq
  for (const message of messagesIn(frames)) {
    const end = message.byteOffset - frames.byteOffset + message.length
    const range = folds.replacedBy(seq)
    if (range || folds.isLeftOut(message, seq)) {
      parts.push(frames.subarray(kept, start))
      if (range) parts.push(frameWith(message, seq, range))
      kept = end
    }
    start = end
    seq++
  }
  return kept === 0 ? run : { ...run, frames: Buffer.concat([...parts, frames.subarray(kept)]) }
}

/** The message with `replaces` between its number and its payload. */
export function withReplaces(message: Buffer, seq: number, range: SeqRange): Buffer {
  const at = EVENT_HEAD.length + String(seq).length
  const replaces = Buffer.from(`,"replaces":${JSON.stringify(range)}`, 'latin1')
  return Buffer.concat([message.subarray(0, at), replaces, message.subarray(at)])
}

function frameWith(message: Buffer, seq: number, range: SeqRange): Buffer {
  const payload = withReplaces(message, seq, range)
  const header = Buffer.allocUnsafe(headerLength(payload.length))
  writeHeader(header, 0, payload.length)
  return Buffer.concat([header, payload])
}

/** Tells increments and completed items by their first bytes; remembers the last item, as its increments come in rows. */
class KeyReader {
  #lastBytes = Buffer.alloc(0)
  #lastKey = ''

  /** `item/completed`, the key of an increment, or undefined for what is neither. */
  read(message: Buffer, seq: number): string | undefined {
    const seqEnd = EVENT_HEAD.length + String(seq).length
    if (!hasAt(message, ITEM_EVENT, seqEnd)) return undefined
    const at = seqEnd + BEFORE_METHOD.length
    if (this.#lastKey !== '' && hasAt(message, this.#lastBytes, at)) return this.#lastKey
    const methodEnd = message.indexOf(QUOTE, at)
    const method = message.toString('latin1', at, methodEnd)
    if (method === COMPLETED) return COMPLETED
    if (!METHODS.has(method)) return undefined
    return this.#readKey(message, at, method)
  }

  #readKey(message: Buffer, at: number, method: string): string {
    const idAt = message.indexOf(ITEM_ID, at)
    const idEnd = idAt === -1 ? -1 : message.indexOf(QUOTE, idAt + ITEM_ID.length)
    const bytes = message.subarray(at, idEnd + 1)
    const sniffed = bytes.toString('utf8')
    // Any other order of fields, and any escape, is left to the parser; what it makes of it is the same key.
    const isPlain = idEnd !== -1 && PLAIN_KEY.test(sniffed) && !bytes.includes(BACKSLASH)
    if (!isPlain) {
      const params = readParams(message)
      return keyOf(method, params, asText(params.itemId))
    }
    this.#lastBytes = Buffer.from(bytes)
    this.#lastKey = sniffed
    return sniffed
  }
}

const PLAIN_KEY = /^[\w/]+","params":\{"threadId":"[^"]*","turnId":"[^"]*","itemId":"[^"]*"$/

/** As the first bytes of the increment would say it, from the method on. */
function keyOf(method: string, { threadId, turnId }: JsonObject, itemId: string | undefined): string {
  const ids = { threadId: asText(threadId), turnId: asText(turnId), itemId }
  return `${method}","params":${JSON.stringify(ids).slice(0, -1)}`
}

function readParams(message: Buffer): JsonObject {
  const { payload } = JSON.parse(message.toString('utf8')) as { payload?: JsonValue }
  return asObject(asObject(payload).params)
}

function holdsSomething(value: JsonValue | undefined): boolean {
  return (typeof value === 'string' || Array.isArray(value)) && value.length > 0
}

function hasAt(message: Buffer, part: Buffer, at: number): boolean {
  const end = at + part.length
  return end <= message.length && message.compare(part, 0, part.length, at, end) === 0
}
