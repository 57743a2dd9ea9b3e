import type { Journal, JournalEntry } from '../journal/journal.ts'

/** Where a client's messages go: a socket, a stream. */
export interface ClientSink {
  /** Sends messages in order. Never throws. */
  send(messages: readonly Buffer[]): void
  /** Bytes that were sent but have not left this process. */
  readonly bufferedBytes: number
  /** Calls back once everything that was sent has left this process; never, when the sink closes first. */
  onDrained(callback: () => void): void
  close(code: number, reason: string): void
}

/** Everything up to and with `since` of `epoch` has been seen. */
export interface JournalPosition {
  epoch: string
  since: number
}

export const DeliveryStates = {
  /** Has everything; new entries go straight out. */
  LIVE: 'live',
  /** Reads from the journal at its own pace until it has everything. */
  CATCHING_UP: 'catching-up',
  CLOSED: 'closed'
} as const
type DeliveryState = (typeof DeliveryStates)[keyof typeof DeliveryStates]

/** Above this much unsent data a client is taken off the live feed: it costs no more memory than this. */
const HIGH_WATER_BYTES = 1024 * 1024
const READ_BYTES = 256 * 1024

/**
 * One attached client: a cursor over the session's journal. Live delivery and replay are the same thing, so nothing
 * can fall between backlog and live, and a slow client waits in the journal instead of in memory.
 */
export class SessionClient {
  readonly #sink: ClientSink
  readonly #journal: Journal
  readonly #describeGap: (from: number, to: number) => Buffer[]
  /** The newest entry that was handed to the sink. */
  #cursor: number
  #state: DeliveryState = DeliveryStates.LIVE

  /** @param describeGap the messages that tell a client which entries it cannot have, and the state instead of them */
  constructor(sink: ClientSink, journal: Journal, describeGap: (from: number, to: number) => Buffer[]) {
    this.#sink = sink
    this.#journal = journal
    this.#describeGap = describeGap
    this.#cursor = journal.lastSeq
  }

  get state(): DeliveryState {
    return this.#state
  }

  /** A message outside the journal (a response, a pong), at once. */
  sendDirect(message: Buffer): void {
    if (this.#state !== DeliveryStates.CLOSED) this.#sink.send([message])
  }

  /** New entries of the journal, in order. */
  deliver(entries: readonly JournalEntry[]): void {
    if (this.#state !== DeliveryStates.LIVE) return
    // A replay may have sent the first of these already.
    const fresh = (entries[0]?.seq ?? 0) > this.#cursor ? entries : entries.filter(({ seq }) => seq > this.#cursor)
    this.#send(fresh)
    if (this.#sink.bufferedBytes > HIGH_WATER_BYTES) this.#fallBehind()
  }

  /**
   * Delivers again from `since` + 1. Another epoch, or a `since` that never was, means that the client's past is not
   * this journal's: it gets a gap up to now, also when this journal is still empty (0 to 0).
   */
  resume({ epoch, since }: JournalPosition): void {
    if (this.#state === DeliveryStates.CLOSED) return
    const { lastSeq } = this.#journal
    if (epoch !== this.#journal.epoch || since > lastSeq) this.#skipTo(lastSeq, Math.min(1, lastSeq))
    else this.#cursor = since
    this.#catchUp()
  }

  /** Ends the delivery and closes the sink. */
  close(code: number, reason: string): void {
    this.detach()
    this.#sink.close(code, reason)
  }

  /** Ends the delivery; the sink is gone or somebody else's to close. */
  detach(): void {
    this.#state = DeliveryStates.CLOSED
  }

  #catchUp(): void {
    this.#state = DeliveryStates.LIVE
    while (this.#cursor < this.#journal.lastSeq) {
      if (this.#sink.bufferedBytes > HIGH_WATER_BYTES) {
        this.#fallBehind()
        return
      }
      const entries = this.#journal.readAfter(this.#cursor, READ_BYTES)
      if (entries) this.#send(entries)
      else this.#skipTo(this.#journal.firstSeq - 1, this.#cursor + 1)
    }
  }

  #fallBehind(): void {
    this.#state = DeliveryStates.CATCHING_UP
    this.#sink.onDrained(() => {
      if (this.#state === DeliveryStates.CATCHING_UP) this.#catchUp()
    })
  }

  #skipTo(seq: number, from: number): void {
    if (from <= seq) this.#sink.send(this.#describeGap(from, seq))
    this.#cursor = seq
  }

  #send(entries: readonly JournalEntry[]): void {
    const last = entries.at(-1)
    if (!last) return
    this.#cursor = last.seq
    this.#sink.send(entries.map(({ message }) => message))
  }
}
