import { Envelope } from './envelope.ts'
import { skipFrames } from './frames.ts'
import type { Run } from './run.ts'

/** Blocks double up to this: a quiet session must not hold much, and a flood must not make a block per read. */
const FIRST_BLOCK_BYTES = 1024
const MAX_BLOCK_BYTES = 128 * 1024

interface Block {
  readonly bytes: Buffer
  readonly firstSeq: number
  lastSeq: number
  length: number
  /** How much of it {@link JournalTail.takeNew} has handed out, in bytes and up to which number. */
  takenLength: number
  takenSeq: number
  atMs: number
}

/**
 * The newest events of a journal in memory, in blocks of wire frames that grow only at their end: a run that was handed
 * out never changes. Holes are between blocks.
 */
export class JournalTail {
  readonly #events = new Envelope('event')
  #blocks: Block[] = []
  #bytes = 0

  /** The oldest number held; undefined when there is none. */
  get firstSeq(): number | undefined {
    return this.#blocks[0]?.firstSeq
  }

  /** Of frames, in all blocks. */
  get bytes(): number {
    return this.#bytes
  }

  get blockCount(): number {
    return this.#blocks.length
  }

  /** Appends one message. Returns whether a new block was begun for it. */
  append(seq: number, type: string, payload: Buffer, start: number, end: number): boolean {
    const envelope = type === 'event' ? this.#events : new Envelope(type)
    const frameBytes = envelope.frameLength(seq, end - start)
    let block = this.#blocks[this.#blocks.length - 1]
    let isNew = false
    if (block === undefined || block.lastSeq + 1 !== seq || block.length + frameBytes > block.bytes.length) {
      block = this.#addBlock(seq, frameBytes)
      isNew = true
    }
    block.length = envelope.write(block.bytes, block.length, payload, start, end)
    block.lastSeq = seq
    this.#bytes += frameBytes
    return isNew
  }

  /** The events that were appended since the last call. */
  takeNew(nowMs: number): Run[] {
    const runs: Run[] = []
    for (let index = this.#blocks.length - 1; index >= 0; index--) {
      const block = this.#blocks[index] as Block
      if (block.takenLength === block.length) break
      block.atMs = nowMs
      const { takenLength, takenSeq, lastSeq, length } = block
      runs.push({ firstSeq: takenSeq + 1, lastSeq, atMs: nowMs, frames: block.bytes.subarray(takenLength, length) })
      block.takenLength = length
      block.takenSeq = lastSeq
    }
    return runs.reverse()
  }

  /** Events after `seq` that are held, oldest first, about `maxBytes` of them; at least one if there is any. */
  read(seq: number, maxBytes: number): Run[] {
    const runs: Run[] = []
    let bytes = 0
    for (const block of this.#blocks) {
      if (block.lastSeq <= seq) continue
      const from = seq < block.firstSeq ? 0 : skipFrames(block.bytes, 0, seq - block.firstSeq + 1)
      bytes += block.length - from
      if (runs.length > 0 && bytes > maxBytes) break
      const { firstSeq, lastSeq, atMs } = block
      const frames = block.bytes.subarray(from, block.length)
      runs.push({ firstSeq: Math.max(firstSeq, seq + 1), lastSeq, atMs, frames })
    }
    return runs
  }

  /** How many bytes of blocks hold something after `seq`. */
  bytesAfter(seq: number): number {
    let bytes = 0
    for (let index = this.#blocks.length - 1; index >= 0; index--) {
      const block = this.#blocks[index] as Block
      if (block.lastSeq <= seq) break
      bytes += block.length
    }
    return bytes
  }

  /** Drops the oldest block as long as `isDue` says so of it. */
  dropWhile(isDue: (block: { lastSeq: number; atMs: number }, bytesHeld: number) => boolean): void {
    let count = 0
    for (const block of this.#blocks) {
      if (!isDue(block, this.#bytes)) break
      this.#bytes -= block.length
      count++
    }
    if (count > 0) this.#blocks = this.#blocks.slice(count)
  }

  #addBlock(seq: number, frameBytes: number): Block {
    const before = this.#blocks[this.#blocks.length - 1]?.bytes.length ?? FIRST_BLOCK_BYTES / 2
    const capacity = Math.max(Math.min(before * 2, MAX_BLOCK_BYTES), frameBytes)
    const block: Block = {
      // Not from Node's shared pool: one small event would keep a whole slab of it alive.
      bytes: Buffer.allocUnsafeSlow(capacity),
      firstSeq: seq,
      lastSeq: seq - 1,
      length: 0,
      takenLength: 0,
      takenSeq: seq - 1,
      atMs: Date.now()
    }
    this.#blocks.push(block)
    return block
  }
}
