import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'

const PIECE_BYTES = 128 * 1024

export interface FileRangeOptions {
  start: number
  /** Behind the last byte. */
  end: number
  /** Whether a file that has become shorter meanwhile just ends; else the stream fails. */
  mayEndEarly: boolean
}

/** A part of an open file as a stream, read as fast as it is taken; the file is closed with it, read or not. */
export class FileRange extends Readable {
  readonly #file: FileHandle
  readonly #end: number
  readonly #mayEndEarly: boolean
  #position: number

  constructor(file: FileHandle, { start, end, mayEndEarly }: FileRangeOptions) {
    super({ highWaterMark: PIECE_BYTES })
    this.#file = file
    this.#position = start
    this.#end = end
    this.#mayEndEarly = mayEndEarly
  }

  override _read(): void {
    this.#readPiece().then(
      (piece) => this.push(piece),
      (error: Error) => this.destroy(error)
    )
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#file.close().then(
      () => callback(error),
      (closeError: Error) => callback(error ?? closeError)
    )
  }

  async #readPiece(): Promise<Buffer | null> {
    const wanted = Math.min(PIECE_BYTES, this.#end - this.#position)
    if (wanted <= 0) return null
    const { bytesRead, buffer } = await this.#file.read(Buffer.allocUnsafe(wanted), 0, wanted, this.#position)
    // The length was told already: what comes next on the connection would be taken for the rest.
    if (bytesRead === 0 && !this.#mayEndEarly) throw new Error('the file became shorter while it was sent')
    this.#position += bytesRead
    return bytesRead === 0 ? null : buffer.subarray(0, bytesRead)
  }
}
