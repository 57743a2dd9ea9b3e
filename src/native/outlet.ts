import { messagesIn, writeHeader } from '../journal/frames.ts'
import { readHead } from '../journal/message-head.ts'
import type { ClientSink } from '../session/client.ts'

const EVENT = 'event'
const PAYLOAD = Buffer.from(',"payload":')

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
    const out: Buffer[] = []
    frames.forEach((frame, index) => {
      if (this.#held.length > 0) return
      const rest = this.#pass(frame, out)
      if (rest !== undefined) this.#hold([rest, ...frames.slice(index + 1)])
    })
    if (out.length > 0) this.#sink.send(out)
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
    const out: Buffer[] = []
    this.#sendReplies(this.#seq, out)
    if (out.length > 0) this.#sink.send(out)
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
  #pass(frames: Buffer, out: Buffer[]): Buffer | undefined {
    // A native message is never longer than the gateway's own.
    const target = Buffer.allocUnsafe(frames.length)
    let [written, sent] = [0, 0]
    const flush = () => {
      if (written > sent) out.push(target.subarray(sent, written))
      sent = written
    }
    for (const message of messagesIn(frames)) {
      const { type, seq } = readHead(message)
      if (seq !== undefined && !this.#reach(seq, out, flush)) {
        flush()
        return frames.subarray(startOfFrame(frames, message))
      }
      if (type === EVENT) {
        const start = message.indexOf(PAYLOAD) + PAYLOAD.length
        const end = message.length - 1
        if (this.#handlers.passEvent(message, start, end)) {
          written = writeHeader(target, written, end - start)
          written += message.copy(target, written, start, end)
        }
      } else {
        flush()
        out.push(...this.#handlers.translate(type, message))
      }
      if (seq !== undefined) this.#seq = seq
    }
    flush()
    this.#sendReplies(this.#seq, out)
    return undefined
  }

  /** Whether everything before this number is out. */
  #reach(seq: number, out: Buffer[], flush: () => void): boolean {
    const first = this.#slots[0]
    if (first === undefined || first.seq >= seq) return true
    flush()
    this.#sendReplies(seq - 1, out)
    return this.#slots[0] === undefined || this.#slots[0].seq >= seq
  }

  #sendReplies(seq: number, out: Buffer[]): void {
    for (let slot = this.#slots[0]; slot?.take !== undefined && slot.seq <= seq; slot = this.#slots[0]) {
      this.#slots.shift()
      out.push(...slot.take())
    }
  }
}

/** Where the frame begins whose payload `message` is. */
function startOfFrame(frames: Buffer, message: Buffer): number {
  const payloadStart = message.byteOffset - frames.byteOffset
  return payloadStart - (message.length < 126 ? 2 : message.length < 0x10000 ? 4 : 10)
}
