import { headerLength, writeHeader } from '../journal/frames.ts'
import type { ClientSink } from '../session/client.ts'

/** As much as a block of the journal. */
const SCRATCH_BYTES = 256 * 1024
/**
 * Where frames of events are written, for all clients: each piece of memory of its own would be outside V8's heap, which
 * it answers in a flood with collections of the whole heap.
 */
let scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)

/** Frames for one client, sent in one go: those of events are written one behind the other, all others go between them. */
export class FrameBatch {
  readonly #out: Buffer[] = []
  #target = scratch
  #written = 0
  #flushed = 0

  /** A frame whose payload are `bytes` from `start` to `end`, which are copied. */
  copy(bytes: Buffer, start: number, end: number): void {
    const payloadBytes = end - start
    const frameBytes = headerLength(payloadBytes) + payloadBytes
    if (this.#written + frameBytes > this.#target.length) this.#extend(frameBytes)
    const at = writeHeader(this.#target, this.#written, payloadBytes)
    this.#written = at + bytes.copy(this.#target, at, start, end)
  }

  push(frames: readonly Buffer[]): void {
    if (frames.length === 0) return
    this.#flush()
    this.#out.push(...frames)
  }

  /** Call once, and in the same turn of the loop in which the batch was made. */
  sendTo(sink: ClientSink): void {
    this.#flush()
    if (this.#out.length === 0) return
    sink.send(this.#out)
    // What has not left this process is still read.
    if (sink.bufferedBytes > 0) scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
  }

  #extend(frameBytes: number): void {
    this.#flush()
    this.#target = Buffer.allocUnsafe(Math.max(frameBytes, SCRATCH_BYTES))
    this.#written = 0
    this.#flushed = 0
  }

  #flush(): void {
    if (this.#written > this.#flushed) this.#out.push(this.#target.subarray(this.#flushed, this.#written))
    this.#flushed = this.#written
  }
}
