import { headerLength, writeHeader } from './frames.ts'

const CLOSE_BRACE = 0x7d
const ZERO = 0x30
const NINE = 0x39

/**
 * Writes `{"type":"<type>","seq":<seq>,"payload":<payload>}` frames for ascending numbers. The part before the payload
 * is kept as bytes and its number counted up in place: formatting it anew would cost as much as all the rest.
 */
export class Envelope {
  readonly #type: string
  #head = Buffer.alloc(0)
  #lastDigit = 0
  #digits = 0
  #seq = -1

  constructor(type: string) {
    this.#type = type
  }

  /** How many bytes {@link write} needs for a payload of this size under this number. */
  frameLength(seq: number, payloadBytes: number): number {
    if (seq !== this.#seq) this.#setSeq(seq)
    const messageBytes = this.#head.length + payloadBytes + 1
    return headerLength(messageBytes) + messageBytes
  }

  /** Writes one frame at `at` and returns where it ends. Call {@link frameLength} for the same number before. */
  write(target: Buffer, at: number, payload: Buffer, start: number, end: number): number {
    const headLength = this.#head.length
    let position = writeHeader(target, at, headLength + end - start + 1)
    target.set(this.#head, position)
    position += headLength
    payload.copy(target, position, start, end)
    position += end - start
    target[position] = CLOSE_BRACE
    return position + 1
  }

  #setSeq(seq: number): void {
    if (seq === this.#seq + 1 && this.#countUp()) {
      this.#seq = seq
      return
    }
    const before = `{"type":"${this.#type}","seq":`
    const number = String(seq)
    this.#head = Buffer.from(`${before}${number},"payload":`, 'latin1')
    this.#digits = number.length
    this.#lastDigit = before.length + number.length - 1
    this.#seq = seq
  }

  /** Returns whether the number still has as many digits as before. */
  #countUp(): boolean {
    const head = this.#head
    for (let index = this.#lastDigit; index > this.#lastDigit - this.#digits; index--) {
      if (head[index] !== NINE) {
        head[index] = (head[index] as number) + 1
        return true
      }
      head[index] = ZERO
    }
    return false
  }
}
