const LF = 0x0a
const CR = 0x0d

/** Thrown by {@link LineSplitter.push} when a line outgrows the cap; the stream cannot be trusted after it. */
export class LineTooLong extends Error {
  constructor(maxLineBytes: number) {
    super(`A line is longer than ${maxLineBytes} bytes`)
    this.name = 'LineTooLong'
  }
}

/**
 * Splits a byte stream into lines at LF (a CR before it is cut too). Works on bytes: `node:readline` also splits at
 * U+2028, which codex emits unescaped inside JSON strings. Returned lines are views of the chunk where they can be, so
 * copy a line before keeping it past the current tick if the chunk's memory matters.
 */
export class LineSplitter {
  readonly #maxLineBytes: number
  #rest: Buffer[] = []
  #restBytes = 0

  /** @param maxLineBytes a line longer than this makes {@link push} throw {@link LineTooLong} */
  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes
  }

  /** Takes a chunk and returns the lines it completes, without their line ends; empty lines are left out. */
  push(chunk: Buffer): Buffer[] {
    const lines: Buffer[] = []
    let start = 0
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      const line = this.#complete(chunk.subarray(start, end))
      if (line.length > 0) lines.push(line)
      start = end + 1
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
    return lines
  }

  #complete(piece: Buffer): Buffer {
    let line = piece
    if (this.#restBytes > 0) {
      this.#keep(piece)
      line = Buffer.concat(this.#rest, this.#restBytes)
      this.#rest = []
      this.#restBytes = 0
    }
    if (line.length > this.#maxLineBytes) throw new LineTooLong(this.#maxLineBytes)
    return line.at(-1) === CR ? line.subarray(0, -1) : line
  }

  #keep(piece: Buffer): void {
    this.#rest.push(piece)
    this.#restBytes += piece.length
    if (this.#restBytes > this.#maxLineBytes) throw new LineTooLong(this.#maxLineBytes)
  }
}
