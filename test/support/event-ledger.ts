import { crc32 } from 'node:zlib'
import type { Received } from './ws-client.ts'

export interface SeqRange {
  from: number
  to: number
}

/** A message with a number; one of a compact replay may stand for others as well. */
export interface Numbered extends Received {
  seq: number
  replaces?: SeqRange
}

/** codex's words of one item, as a client got them. */
interface ItemText {
  deltas: string
  /** Some of the deltas came folded into item/completed. */
  isFolded: boolean
  completed: string | undefined
}

const MAX_FAULTS = 20
const REPLACES = /,?"replaces":\{[^}]*\}(?=,|\})/

/**
 * What one client has of an epoch's events, over all its connections: proves that it got each number exactly once and
 * in order, and that what it got is what others got.
 */
export class EventLedger {
  /** What went against the contract, in words. */
  readonly faults: string[] = []
  /** The client has everything up to and with this number: received, replaced or told as a gap. */
  position: number
  /** Numbers that it received as they are. */
  received = 0
  /** Numbers that a compact replay left out. */
  replaced = 0
  readonly gaps: SeqRange[] = []
  /** What it had received and what a crash of the gateway undid. */
  readonly takenBack: SeqRange[] = []
  readonly first: number
  /** By number: the checksum of each received message, and when it came. */
  readonly #sums = new Map<number, number>()
  readonly #arrivals = new Map<number, number>()
  /** Of a compact replay: numbers past a hole that an item/completed will fill. */
  readonly #ahead = new Map<number, number>()
  readonly #items = new Map<string, ItemText>()
  readonly #completedTurns = new Set<string>()

  /** @param position the client knows everything up to this already */
  constructor(position: number) {
    this.position = position
    this.first = position + 1
  }

  /** The check of one connection that goes on from `position`. */
  connection(kind: 'position' | 'resume', readySeq: number, isCompact: boolean): ConnectionCheck {
    return new ConnectionCheck(this, kind, readySeq, isCompact)
  }

  hasTurnEnd(turnId: string): boolean {
    return this.#completedTurns.has(turnId)
  }

  /** All that codex said, in order; what was streamed and came unfolded must be the same. */
  said(): string {
    let said = ''
    for (const [itemId, { deltas, isFolded, completed }] of this.#items) {
      if (completed === undefined) this.fault(`${itemId} has no end`)
      else if (!isFolded && deltas !== completed) this.fault(`${itemId}: its deltas are not its text`)
      said += completed ?? deltas
    }
    return said
  }

  /** Numbers that it has but that count only once a hole before them is filled. */
  ahead(): Set<number> {
    return new Set(this.#ahead.values())
  }

  fault(text: string): void {
    if (this.faults.length < MAX_FAULTS) this.faults.push(text)
  }

  /** Takes a message that is new to the client. */
  add(message: Numbered, raw: Buffer): void {
    const { seq, replaces } = message
    if (this.#sums.has(seq)) {
      this.fault(`${seq} came again after it had been counted`)
      return
    }
    this.received++
    const bytes = replaces ? Buffer.from(raw.toString('utf8').replace(REPLACES, '')) : raw
    this.#sums.set(seq, crc32(bytes))
    this.#arrivals.set(seq, performance.now())
    this.#readText(message)
    this.#cover(replaces ? Math.min(replaces.from, seq) : seq, seq)
    if (replaces) this.#countReplaced(replaces, seq)
  }

  /**
   * Numbers that the client cannot have. A gap of another epoch than its own also takes back what it had from `from`
   * on: those events were lost, and their numbers count others now.
   */
  addGap({ from, to }: SeqRange, isOtherEpoch: boolean): void {
    if (isOtherEpoch && from <= this.position) this.#takeBack(from)
    if (from !== this.position + 1 && to > 0) this.fault(`a gap from ${from} to ${to} after ${this.position}`)
    this.gaps.push({ from, to })
    this.position = Math.max(this.position, to)
  }

  /** Numbers in which this client's messages differ from what another client got under the same number. */
  differencesTo(other: EventLedger): number[] {
    return [...this.#sums].flatMap(([seq, sum]) => {
      const theirs = other.#sums.get(seq)
      return theirs !== undefined && theirs !== sum ? [seq] : []
    })
  }

  /** The newest number that had come by then (of `performance.now()`); undefined when none had. */
  newestBy(atMs: number): number | undefined {
    let newest: number | undefined
    for (const [seq, arrivedAtMs] of this.#arrivals) if (arrivedAtMs <= atMs && seq > (newest ?? 0)) newest = seq
    return newest
  }

  has(seq: number): boolean {
    return this.#sums.has(seq)
  }

  #takeBack(from: number): void {
    this.takenBack.push({ from, to: this.position })
    for (let seq = from; seq <= this.position; seq++) if (this.#sums.delete(seq)) this.received--
    this.position = from - 1
  }

  #countReplaced({ from, to }: SeqRange, seq: number): void {
    if (from > to || to >= seq) this.fault(`${seq} replaces ${from} to ${to}`)
    for (let left = from; left <= to; left++) if (!this.#sums.has(left)) this.replaced++
  }

  /** Moves the position on when the range touches it, else remembers it. */
  #cover(from: number, to: number): void {
    if (from > this.position + 1) {
      this.#ahead.set(from, to)
      return
    }
    this.position = Math.max(this.position, to)
    for (const [start, end] of this.#ahead) {
      if (start > this.position + 1) continue
      this.#ahead.delete(start)
      this.position = Math.max(this.position, end)
    }
  }

  #readText({ type, payload, replaces }: Numbered): void {
    if (type !== 'event') return
    const { method, params } = payload
    if (method === 'turn/completed') this.#completedTurns.add(params.turn.id)
    else if (method === 'item/agentMessage/delta') this.#item(params.itemId).deltas += params.delta
    else if (method === 'item/completed' && params.item.type === 'agentMessage') {
      const item = this.#item(params.item.id)
      item.completed = params.item.text
      item.isFolded = replaces !== undefined
    }
  }

  #item(itemId: string): ItemText {
    const known = this.#items.get(itemId)
    if (known) return known
    const item = { deltas: '', isFolded: false, completed: undefined }
    this.#items.set(itemId, item)
    return item
  }
}

/**
 * The numbers of one connection, in order of arrival. One that was opened at a position must go on right behind it. One
 * that asks with session/resume gets live events until its delivery starts again, at its position + 1; a client drops
 * what it has.
 */
export class ConnectionCheck {
  readonly #ledger: EventLedger
  readonly #isCompact: boolean
  readonly #since: number
  /** What the client has already and must get again, because it stands behind its position. */
  readonly #known: Set<number>
  #expected: number
  #mayRestart: boolean
  /** What came live before the restart comes again. */
  #repeatedUpTo = 0
  #hasStarted: boolean

  constructor(ledger: EventLedger, kind: 'position' | 'resume', readySeq: number, isCompact: boolean) {
    this.#ledger = ledger
    this.#isCompact = isCompact
    this.#since = ledger.position
    this.#known = ledger.ahead()
    this.#expected = (kind === 'position' ? this.#since : readySeq) + 1
    this.#mayRestart = kind === 'resume'
    this.#hasStarted = kind === 'position'
  }

  take(message: Numbered, raw: Buffer): void {
    const { seq, replaces } = message
    const startsAt = replaces ? Math.min(replaces.from, seq) : seq
    if (seq !== this.#expected && !this.#isAllowed(seq, startsAt)) {
      this.#ledger.fault(`${seq} came where ${this.#expected} was due (since ${this.#since})`)
    }
    this.#expected = seq + 1
    if (!this.#hasStarted && this.#since + 1 === startsAt) this.#hasStarted = true
    // Before the restart: it will come again in its place.
    if (!this.#hasStarted) return
    if (!this.#ledger.has(seq)) this.#ledger.add(message, raw)
    else if (seq > this.#repeatedUpTo && !this.#known.has(seq)) this.#ledger.fault(`${seq} came twice`)
  }

  takeGap(gap: SeqRange, isOtherEpoch: boolean): void {
    this.#ledger.addGap(gap, isOtherEpoch)
    this.#hasStarted = true
    this.#expected = gap.to + 1
  }

  #isAllowed(seq: number, startsAt: number): boolean {
    if (this.#mayRestart && (startsAt === this.#since + 1 || (this.#isCompact && seq < this.#expected))) {
      this.#mayRestart = false
      this.#hasStarted = true
      this.#repeatedUpTo = this.#expected - 1
      return true
    }
    // What a compact replay leaves out is replaced by a message that follows.
    return this.#isCompact && seq > this.#expected
  }
}
