import { type FileHandle, open } from 'node:fs/promises'
import type { DirectoryLock } from './directory-lock.ts'
import { type Segment, segmentAt, syncDirectory } from './segments.ts'

/** Where a write landed. */
export interface Landing {
  segment: number
  offset: number
}

/** Appends bytes to the newest segment, durably. One call at a time. */
export class SegmentWriter {
  readonly #dir: string
  readonly #maxBytes: number
  readonly #lock: DirectoryLock
  #file: FileHandle
  #segment: Segment
  /** Durable bytes of the segment: everything behind is a write that failed. */
  #size: number
  #attempted = 0

  private constructor(
    options: { dir: string; maxBytes: number; lock: DirectoryLock },
    opened: { file: FileHandle; segment: Segment; size: number }
  ) {
    this.#dir = options.dir
    this.#maxBytes = options.maxBytes
    this.#lock = options.lock
    this.#file = opened.file
    this.#segment = opened.segment
    this.#size = opened.size
  }

  /** Continues segment `number` at byte `size`, or begins it when it is not there. */
  static async open(
    options: { dir: string; maxBytes: number; lock: DirectoryLock },
    number: number,
    size: number
  ): Promise<SegmentWriter> {
    const segment = segmentAt(options.dir, number)
    const file = await open(segment.path, 'a', 0o600)
    await syncDirectory(options.dir)
    return new SegmentWriter(options, { file, segment, size })
  }

  get segment(): number {
    return this.#segment.number
  }

  get size(): number {
    return this.#size
  }

  /** Resolves when the bytes are on the disk. After a rejection `repair` must come first. */
  async write(bytes: Buffer): Promise<Landing> {
    if (this.#size >= this.#maxBytes) await this.#rotate()
    const [held, { size }] = await Promise.all([this.#lock.isHeld(), this.#file.stat()])
    if (!held) throw new Error('another gateway has taken the directory over')
    if (size !== this.#size) throw new Error(`${this.#segment.name} has ${size} bytes where ${this.#size} were written`)
    this.#attempted = bytes.length
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done)
      if (bytesWritten === 0) throw new Error('the disk took no bytes')
      done += bytesWritten
    }
    await this.#file.datasync()
    const landing = { segment: this.#segment.number, offset: this.#size }
    this.#size += bytes.length
    this.#attempted = 0
    return landing
  }

  /**
   * Takes back what a failed write left, so that no refused record stands in the chain, and goes on in a new segment:
   * after a failed sync the kernel may show bytes of this file that never reach the disk. Bytes that are not of that
   * write are never cut.
   */
  async repair(): Promise<void> {
    if (!(await this.#lock.isHeld())) throw new Error('another gateway has taken the directory over')
    const { size } = await this.#file.stat()
    if (size < this.#size || size > this.#size + this.#attempted) {
      throw new Error(`${this.#segment.name} has ${size} bytes where ${this.#size} were written`)
    }
    await this.#file.truncate(this.#size)
    await this.#file.datasync()
    this.#attempted = 0
    if (this.#size > 0) await this.#rotate()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #rotate(): Promise<void> {
    const segment = segmentAt(this.#dir, this.#segment.number + 1)
    const file = await open(segment.path, 'ax', 0o600)
    await this.#file.close().catch(() => {})
    this.#file = file
    this.#segment = segment
    this.#size = 0
    await syncDirectory(this.#dir)
  }
}
