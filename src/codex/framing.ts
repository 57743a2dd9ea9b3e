const LF = 0x0a
const CR = 0x0d

/** Thrown by {@link LineSplitter.push} when a line outgrows the cap; the stream cannot be trusted after it. */
export class LineTooLong extends Error {
  constructor(maxLineBytes: number) {
    super(`A line is longer than ${maxLineBytes} bytes`)
    this.name = 'LineTooLong'
  }
}

/** Takes one line: `bytes` from `start` to `end`, valid during the call only. */
export type OnLine = (bytes: Buffer, start: number, end: number) => void

/**
 * Splits a byte stream into lines at LF (a CR before it is cut too). Works on bytes: `node:readline` also splits at
 * U+2028, which codex emits unescaped inside JSON strings. Lines are told as ranges of the chunk, without an object for
 * each: in a flood that would be half of the cost.
 */
export class LineSplitter {
  readonly #maxLineBytes: number
  #rest: Buffer[] = []
  #restBytes = 0

  /** @param maxLineBytes a line longer than this makes {@link push} throw {@link LineTooLong} */
  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes
  }

  /** Takes a chunk and tells the lines it completes, without their line ends; empty lines are left out. */
  push(chunk: Buffer, onLine: OnLine): void {
    let start = 0
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      if (this.#restBytes > 0) this.#complete(chunk.subarray(start, end), onLine)
      else this.#tell(chunk, start, end, onLine)
      start = end + 1
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
  }

  #complete(piece: Buffer, onLine: OnLine): void {
    this.#keep(piece)
    const line = Buffer.concat(this.#rest, this.#restBytes)
    this.#rest = []
    this.#restBytes = 0
    this.#tell(line, 0, line.length, onLine)
  }

  #tell(bytes: Buffer, start: number, lineEnd: number, onLine: OnLine): void {
    if (lineEnd - start > this.#maxLineBytes) throw new LineTooLong(this.#maxLineBytes)
    const end = lineEnd > start && bytes[lineEnd - 1] === CR ? lineEnd - 1 : lineEnd
    if (end > start) onLine(bytes, start, end)
  }

  /** Copies: the chunk's memory is read into again. */
  #keep(piece: Buffer): void {
    this.#rest.push(Buffer.from(piece))
    this.#restBytes += piece.length
    if (this.#restBytes > this.#maxLineBytes) throw new LineTooLong(this.#maxLineBytes)
  }
}
