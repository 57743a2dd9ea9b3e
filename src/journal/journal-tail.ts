import { Envelope } from './envelope.ts'
import { skipFrames } from './frames.ts'
import type { Run } from './run.ts'

/** Blocks double up to this: a quiet session must not hold much, and a flood must not make a block per read. */
const FIRST_BLOCK_BYTES = 1024
const MAX_BLOCK_BYTES = 256 * 1024
/** Blocks that are kept to be used again. */
const MAX_FREE_BLOCKS = 16

interface Block {
  readonly bytes: Buffer
  readonly firstSeq: number
  lastSeq: number
  length: number
  /** How much of it {@link JournalTail.takeNew} has handed out, in bytes and up to which number. */
  takenLength: number
  takenSeq: number
  atMs: number
  /** Somebody has its bytes who does not say when he is done. */
  isHeld: boolean
}

/**
 * The newest events of a journal in memory, in blocks of wire frames that grow only at their end. Holes are between
 * blocks. In a flood, blocks are used again: to V8 each new one is memory outside its heap, which it answers with a
 * collection of the whole heap every few dozen. A run that was handed out never changes as long as it may be read:
 * {@link read} holds its blocks for good, {@link borrow} until the next {@link giveBack}, {@link takeNew} until the
 * clients have sent all.
 */
export class JournalTail {
  readonly #events = new Envelope('event')
  readonly #haveClientsSentAll: () => boolean
  #blocks: Block[] = []
  #bytes = 0
  #free: Buffer[] = []
  /** Blocks that were dropped while the store had them. */
  #returning: Buffer[] = []
  #borrowedSeq = 0

  constructor(haveClientsSentAll: () => boolean) {
    this.#haveClientsSentAll = haveClientsSentAll
  }

  /** The oldest number held; undefined when there is none. */
  get firstSeq(): number | undefined {
    return this.#blocks[0]?.firstSeq
  }

  /** Of frames, in all blocks. */
  get bytes(): number {
    return this.#bytes
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

  /** Events after `seq` that are here, oldest first, about `maxBytes` of them; at least one if there is any. */
  read(seq: number, maxBytes: number): Run[] {
    return this.#runs(seq, maxBytes, true)
  }

  /** As {@link read}, for one reader that gives them back before it borrows again. */
  borrow(seq: number, maxBytes: number): Run[] {
    const runs = this.#runs(seq, maxBytes, false)
    this.#borrowedSeq = runs.at(-1)?.lastSeq ?? 0
    return runs
  }

  /** @param isDone whether nobody reads what was borrowed any more */
  giveBack(isDone: boolean): void {
    if (isDone) this.#free.push(...this.#returning.slice(0, MAX_FREE_BLOCKS - this.#free.length))
    else this.hold(this.#borrowedSeq)
    this.#returning = []
    this.#borrowedSeq = 0
  }

  /** What was handed out of the events up to this number is still read, nobody knows for how long. */
  hold(seq: number): void {
    for (const block of this.#blocks) {
      if (block.firstSeq > seq) break
      block.isHeld = true
    }
  }

  /** Lets go of the memory that is kept for the next flood. */
  clearFree(): void {
    this.#free = []
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
      this.#discard(block)
      count++
    }
    if (count > 0) this.#blocks = this.#blocks.slice(count)
  }

  #runs(seq: number, maxBytes: number, isHeld: boolean): Run[] {
    const runs: Run[] = []
    let bytes = 0
    for (const block of this.#blocks) {
      if (block.lastSeq <= seq) continue
      const from = seq < block.firstSeq ? 0 : skipFrames(block.bytes, 0, seq - block.firstSeq + 1)
      bytes += block.length - from
      if (runs.length > 0 && bytes > maxBytes) break
      if (isHeld) block.isHeld = true
      const { firstSeq, lastSeq, atMs } = block
      const frames = block.bytes.subarray(from, block.length)
      runs.push({ firstSeq: Math.max(firstSeq, seq + 1), lastSeq, atMs, frames })
    }
    return runs
  }

  #discard({ bytes, firstSeq, length, takenLength, isHeld }: Block): void {
    if (bytes.length !== MAX_BLOCK_BYTES || isHeld || takenLength !== length || !this.#haveClientsSentAll()) return
    if (firstSeq <= this.#borrowedSeq) this.#returning.push(bytes)
    else if (this.#free.length < MAX_FREE_BLOCKS) this.#free.push(bytes)
  }

  #addBlock(seq: number, frameBytes: number): Block {
    const before = this.#blocks[this.#blocks.length - 1]?.bytes.length ?? FIRST_BLOCK_BYTES / 2
    const capacity = Math.max(Math.min(before * 2, MAX_BLOCK_BYTES), frameBytes)
    const block: Block = {
      bytes: this.#allocate(capacity),
      firstSeq: seq,
      lastSeq: seq - 1,
      length: 0,
      takenLength: 0,
      takenSeq: seq - 1,
      atMs: Date.now(),
      isHeld: false
    }
    this.#blocks.push(block)
    return block
  }

  #allocate(bytes: number): Buffer {
    const free = bytes === MAX_BLOCK_BYTES ? this.#free.pop() : undefined
    // Not from Node's shared pool: one small event would keep a whole slab of it alive.
    return free ?? Buffer.allocUnsafeSlow(bytes)
  }
}
