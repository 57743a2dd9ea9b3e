import { frameEnd, payloadStart } from '../journal/frames.ts'
import { EventCursor, readHead } from '../journal/message-head.ts'
import type { ClientSink } from '../session/client.ts'
import { FrameBatch } from './frame-batch.ts'

/** A reply whose place among the events is fixed, and which may not be ready yet. */
export interface ReplySlot {
  /** It comes behind this event. */
  readonly seq: number
  /** Called when its turn has come; undefined while it is worked on. Must not throw. */
  take: (() => readonly Buffer[]) | undefined
}

export interface OutletHandlers {
  /** Whether the client gets this line of codex: `bytes` from `start` to `end`. */
  passEvent(bytes: Buffer, start: number, end: number): boolean
  /** Any other message of the gateway. Returns what the client gets instead of it, as frames. */
  translate(type: string, message: Buffer): readonly Buffer[]
}

/**
 * Turns what a session sends its clients into what codex would send: of an event codex's own line, byte by byte. Replies
 * keep their place: what codex said before a reply goes out before it, what it said later waits for it.
 */
export class Outlet implements ClientSink {
  readonly #sink: ClientSink
  readonly #handlers: OutletHandlers
  /** The newest number that went by. */
  #seq: number
  readonly #slots: ReplySlot[] = []
  readonly #event = new EventCursor()
  /** What came behind a reply that is not ready. */
  #held: Buffer[] = []
  #heldBytes = 0
  readonly #whenFree: (() => void)[] = []

  /** @param seq the newest number before the first that comes */
  constructor(sink: ClientSink, seq: number, handlers: OutletHandlers) {
    this.#sink = sink
    this.#seq = seq
    this.#handlers = handlers
  }

  get bufferedBytes(): number {
    return this.#sink.bufferedBytes + this.#heldBytes
  }

  send(frames: readonly Buffer[]): void {
    if (this.#held.length > 0) {
      this.#hold(frames)
      return
    }
    const batch = new FrameBatch()
    for (const [index, frame] of frames.entries()) {
      const rest = this.#pass(frame, batch)
      if (rest === undefined) continue
      this.#hold([rest, ...frames.slice(index + 1)])
      break
    }
    batch.sendTo(this.#sink)
  }

  /** Frames that belong to no place in particular. */
  sendNow(frames: readonly Buffer[]): void {
    if (frames.length > 0) this.#sink.send(frames)
  }

  /** Reserves the place behind what has come from codex so far. Follow with {@link fill}. */
  reserve(seq: number): ReplySlot {
    const slot: ReplySlot = { seq, take: undefined }
    this.#slots.push(slot)
    return slot
  }

  /** The reply is ready: it goes out when its turn has come. */
  fill(slot: ReplySlot, take: () => readonly Buffer[]): void {
    slot.take = take
    this.sendNow(this.#takeReplies(this.#seq))
    if (this.#held.length === 0) return
    const held = this.#held
    this.#held = []
    this.#heldBytes = 0
    this.send(held)
    if (this.#held.length === 0) for (const callback of this.#whenFree.splice(0)) this.onDrained(callback)
  }

  onDrained(callback: () => void): void {
    if (this.#held.length > 0) this.#whenFree.push(callback)
    else this.#sink.onDrained(callback)
  }

  close(code: number, reason: string): void {
    this.#sink.close(code, reason)
  }

  #hold(frames: readonly Buffer[]): void {
    for (const frame of frames) {
      // The journal may use its memory again.
      this.#held.push(Buffer.from(frame))
      this.#heldBytes += frame.length
    }
  }

  /** Returns what has to wait for a reply, if anything. */
  #pass(frames: Buffer, batch: FrameBatch): Buffer | undefined {
    for (let at = 0; at < frames.length; ) {
      const start = payloadStart(frames, at)
      const end = frameEnd(frames, at)
      const isEvent = this.#event.read(frames, start)
      const message = isEvent ? undefined : frames.subarray(start, end)
      const head = message && readHead(message)
      const seq = head ? head.seq : this.#event.seq
      if (seq !== undefined && !this.#reach(seq, batch)) {
        return frames.subarray(at)
      }
      if (message && head) batch.push(this.#handlers.translate(head.type, message))
      else if (this.#handlers.passEvent(frames, this.#event.payloadStart, end - 1)) {
        batch.copy(frames, this.#event.payloadStart, end - 1)
      }
      if (seq !== undefined) this.#seq = seq
      at = end
    }
    batch.push(this.#takeReplies(this.#seq))
    return undefined
  }

  /** Whether everything before this number is out. */
  #reach(seq: number, batch: FrameBatch): boolean {
    const first = this.#slots[0]
    if (first === undefined || first.seq >= seq) return true
    batch.push(this.#takeReplies(seq - 1))
    return this.#slots[0] === undefined || this.#slots[0].seq >= seq
  }

  #takeReplies(seq: number): Buffer[] {
    const replies: Buffer[] = []
    for (let slot = this.#slots[0]; slot?.take !== undefined && slot.seq <= seq; slot = this.#slots[0]) {
      this.#slots.shift()
      replies.push(...slot.take())
    }
    return replies
  }
}
