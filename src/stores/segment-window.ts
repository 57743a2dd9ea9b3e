import type { FileHandle } from 'node:fs/promises'
import { decodeRecord, RECORD_BYTES, recordLength, type SegmentRecord } from './segment-record.ts'

/** Headers are looked through so many bytes at a time. */
export const SCAN_BYTES = 64 * 1024

const EMPTY = Buffer.alloc(0)

/** A part of a file in plain memory, never a map of it: mapped pages would count as the gateway's own. */
export class SegmentWindow {
  readonly #file: FileHandle
  readonly #endAt: number
  #window: Buffer = EMPTY
  #windowAt = 0

  /** @param endAt where the file ends for this reader */
  constructor(file: FileHandle, endAt: number) {
    this.#file = file
    this.#endAt = endAt
  }

  /**
   * A view of `length` bytes from `at` that nobody changes later; undefined when the file does not have them. What has to
   * be read for it is read up to `readAhead` bytes at once.
   */
  async bytes(at: number, length: number, readAhead: number): Promise<Buffer | undefined> {
    if (at < 0 || at + length > this.#endAt) return undefined
    if (at < this.#windowAt || at + length > this.#windowAt + this.#window.length) {
      await this.#fill(at, Math.min(Math.max(length, readAhead), this.#endAt - at))
    }
    const from = at - this.#windowAt
    return from + length <= this.#window.length ? this.#window.subarray(from, from + length) : undefined
  }

  /** The record whose header begins at `at`; undefined when there is none that is whole. */
  async record(at: number, readAhead: number): Promise<SegmentRecord | undefined> {
    const header = await this.bytes(at, RECORD_BYTES, readAhead)
    const record = header && decodeRecord(header)
    return record && at + recordLength(record) <= this.#endAt ? record : undefined
  }

  /** The records from the beginning to the first place where there is none. */
  async *records(): AsyncGenerator<{ record: SegmentRecord; endAt: number }> {
    for (let at = 0; ; ) {
      const record = await this.record(at, SCAN_BYTES)
      if (record === undefined) return
      at += recordLength(record)
      yield { record, endAt: at }
    }
  }

  async #fill(at: number, length: number): Promise<void> {
    // A new one each time: runs that were read are views of the old one.
    const window = Buffer.allocUnsafeSlow(length)
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await this.#file.read(window, filled, length - filled, at + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    this.#window = window.subarray(0, filled)
    this.#windowAt = at
  }
}
