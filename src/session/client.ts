import { StoreUnavailable } from '../../errors.ts'
import { CompactReplay } from '../journal/compact.ts'
import { encodeFrame } from '../journal/frames.ts'
import type { Journal, JournalPosition } from '../journal/journal.ts'
import type { Run } from '../journal/run.ts'

/** Where a client's messages go: a socket, a stream. */
export interface ClientSink {
  /** Sends WebSocket frames of the server's side, one or more a buffer, in order. Never throws. */
  send(frames: readonly Buffer[]): void
  /** Bytes that were sent but have not left this process. */
  readonly bufferedBytes: number
  /** Calls back once everything that was sent has left this process; never, when the sink closes first. */
  onDrained(callback: () => void): void
  close(code: number, reason: string): void
}

/** Where delivery begins again; `compact`: deltas of completed items are left out on the way to the newest event. */
export interface ResumeFrom extends JournalPosition {
  compact?: boolean | undefined
}

export const DeliveryStates = {
  /** Has everything; new events go straight out. */
  LIVE: 'live',
  /** Reads from the journal at its own pace until it has everything. */
  CATCHING_UP: 'catching-up',
  CLOSED: 'closed'
} as const
type DeliveryState = (typeof DeliveryStates)[keyof typeof DeliveryStates]

/** Above this much unsent data a client is taken off the live feed: it costs no more memory than this. */
const HIGH_WATER_BYTES = 1024 * 1024
const READ_BYTES = 256 * 1024
/** The store is away: the client waits for it, connected. */
const RETRY_READ_MS = 1_000

/** Tells a client which events it cannot have, and the state instead of them; frames. */
export type DescribeGap = (from: number, to: number) => Buffer[]

/**
 * One attached client: a cursor over the session's journal. Live delivery and replay are the same thing, so nothing
 * can fall between backlog and live, and a slow client waits in the journal instead of in memory.
 */
export class SessionClient {
  readonly #sink: ClientSink
  readonly #journal: Journal
  readonly #describeGap: DescribeGap
  /** The newest event that was handed to the sink. */
  #cursor: number
  #state: DeliveryState = DeliveryStates.LIVE
  /** What is read instead of the journal until the client has caught up with what was there when it resumed. */
  #replay: CompactReplay | undefined
  /** Changes with each new start of the catching up; a read that was begun for an older one is dropped. */
  #pass = 0
  #retry: NodeJS.Timeout | undefined

  constructor(sink: ClientSink, journal: Journal, describeGap: DescribeGap) {
    this.#sink = sink
    this.#journal = journal
    this.#describeGap = describeGap
    this.#cursor = journal.lastSeq
  }

  get state(): DeliveryState {
    return this.#state
  }

  /** Whether all that it was given has left this process. */
  get hasSentAll(): boolean {
    return this.#sink.bufferedBytes === 0
  }

  /** A message outside the journal (a response, a pong), at once. */
  sendDirect(message: object): void {
    if (this.#state !== DeliveryStates.CLOSED) this.#sink.send([encodeFrame(message)])
  }

  /**
   * New events of the journal, in order.
   *
   * @param frames those of `runs`, in one array for all clients
   */
  deliver(runs: readonly Run[], frames: readonly Buffer[]): void {
    if (this.#state !== DeliveryStates.LIVE) return
    const first = runs[0]
    const last = runs[runs.length - 1]
    if (first === undefined || last === undefined || last.lastSeq <= this.#cursor) return
    // A replay may have sent the first of these already, or the journal dropped some before they got here.
    if (first.firstSeq !== this.#cursor + 1) {
      this.#catchUp()
      return
    }
    this.#cursor = last.lastSeq
    this.#sink.send(frames)
    if (this.#sink.bufferedBytes > HIGH_WATER_BYTES) this.#catchUp()
  }

  /**
   * Delivers again from `since` + 1. A position that is not of this journal's past gets a gap up to now, also when the
   * journal is still empty (0 to 0).
   */
  resume(from: ResumeFrom): void {
    if (this.#state === DeliveryStates.CLOSED) return
    const cursor = this.#journal.locate(from)
    if (cursor === undefined) this.#skipTo(this.#journal.lastSeq, Math.min(1, this.#journal.lastSeq))
    else this.#cursor = cursor
    this.#replay = from.compact ? new CompactReplay(this.#journal, this.#cursor, this.#journal.lastSeq) : undefined
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
    clearTimeout(this.#retry)
  }

  #catchUp(): void {
    this.#state = DeliveryStates.CATCHING_UP
    clearTimeout(this.#retry)
    this.#pump(++this.#pass)
  }

  /** Sends as much as the sink takes; goes on when it has drained, until the client is live again. */
  #pump(pass: number): void {
    while (this.#state === DeliveryStates.CATCHING_UP && pass === this.#pass) {
      if (this.#sink.bufferedBytes > HIGH_WATER_BYTES) {
        this.#sink.onDrained(() => this.#pump(pass))
        return
      }
      const { lastSeq } = this.#journal
      if (this.#cursor >= lastSeq) {
        this.#state = DeliveryStates.LIVE
        return
      }
      if (this.#replay && this.#cursor >= this.#replay.untilSeq) this.#replay = undefined
      const read = (this.#replay ?? this.#journal).read(this.#cursor, READ_BYTES)
      if (!Array.isArray(read)) {
        void this.#take(pass, read, lastSeq)
        return
      }
      this.#forward(read, lastSeq)
    }
  }

  async #take(pass: number, reading: Promise<Run[]>, lastSeq: number): Promise<void> {
    let runs: Run[]
    try {
      runs = await reading
    } catch (error) {
      // Stored content that a compact replay cannot read would keep it here for ever; as it is, it can be sent.
      if (!(error instanceof StoreUnavailable)) this.#replay = undefined
      if (pass === this.#pass && this.#state === DeliveryStates.CATCHING_UP) {
        this.#retry = setTimeout(() => this.#pump(pass), RETRY_READ_MS)
      }
      return
    }
    if (pass !== this.#pass || this.#state !== DeliveryStates.CATCHING_UP) return
    this.#forward(runs, lastSeq)
    this.#pump(pass)
  }

  /** @param lastSeq the newest number when the reading began */
  #forward(runs: readonly Run[], lastSeq: number): void {
    if (runs.length === 0) this.#skipTo(lastSeq, this.#cursor + 1)
    for (const { firstSeq, lastSeq: runEnd, frames } of runs) {
      if (firstSeq > this.#cursor + 1) this.#skipTo(firstSeq - 1, this.#cursor + 1)
      if (frames.length > 0) this.#sink.send([frames])
      this.#cursor = runEnd
    }
  }

  #skipTo(seq: number, from: number): void {
    if (from <= seq) this.#sink.send(this.#describeGap(from, seq))
    this.#cursor = seq
  }
}
