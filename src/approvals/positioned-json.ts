/** A JSON text that was read, with the place of every value and key. */
export interface PositionedJson {
  readonly value: unknown
  /** Offset of the value at a JSON pointer; of its key, where it has one. */
  readonly offsets: ReadonlyMap<string, number>
}

/** Why a text is not JSON, and at which offset. */
export interface JsonProblem {
  readonly problem: string
  readonly offset: number
}

const MAX_DEPTH = 32
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const LITERALS = [
  ['true', true],
  ['false', false],
  ['null', null]
] as const

/** Reads JSON strictly, as JSON.parse does, and refuses keys that stand twice: the reader of a file sees the first, a parser the last. */
export function readPositionedJson(text: string): PositionedJson | JsonProblem {
  const reader = new JsonReader(text)
  try {
    return { value: reader.read(), offsets: reader.offsets }
  } catch (error) {
    if (error instanceof Unreadable) return { problem: error.message, offset: error.offset }
    throw error
  }
}

/** The 1-based line and column of an offset. */
export function positionOf(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset).split('\n')
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
}

/** Leaves the depth of the reader; never leaves this file. */
class Unreadable extends Error {
  readonly offset: number

  constructor(message: string, offset: number) {
    super(message)
    this.offset = offset
  }
}

class JsonReader {
  readonly offsets = new Map<string, number>()
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  read(): unknown {
    const value = this.#readValue('', 0)
    this.#skipBlanks()
    if (this.#at < this.#text.length) throw this.#unreadable('unexpected text after the value')
    return value
  }

  #readValue(pointer: string, depth: number): unknown {
    this.#skipBlanks()
    if (!this.offsets.has(pointer)) this.offsets.set(pointer, this.#at)
    if (depth > MAX_DEPTH) throw this.#unreadable('the values are nested too deeply')
    const char = this.#text.charAt(this.#at)
    if (char === '{') return this.#readObject(pointer, depth)
    if (char === '[') return this.#readArray(pointer, depth)
    if (char === '"') return this.#readString()
    return this.#readScalar()
  }

  #readObject(pointer: string, depth: number): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    this.#at += 1
    if (this.#take('}')) return object
    do {
      this.#skipBlanks()
      const offset = this.#at
      if (this.#text.charAt(offset) !== '"') throw this.#unreadable('expected a key in double quotes')
      const key = this.#readString()
      if (Object.hasOwn(object, key)) throw new Unreadable(`the key "${key}" stands twice`, offset)
      if (!this.#take(':')) throw this.#unreadable('expected ":"')
      const inner = `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
      this.offsets.set(inner, offset)
      // An assignment to __proto__ would change the object instead of its content.
      Object.defineProperty(object, key, {
        value: this.#readValue(inner, depth + 1),
        enumerable: true,
        configurable: true,
        writable: true
      })
    } while (this.#take(','))
    if (!this.#take('}')) throw this.#unreadable('expected "," or "}"')
    return object
  }

  #readArray(pointer: string, depth: number): unknown[] {
    const array: unknown[] = []
    this.#at += 1
    if (this.#take(']')) return array
    do array.push(this.#readValue(`${pointer}/${array.length}`, depth + 1))
    while (this.#take(','))
    if (!this.#take(']')) throw this.#unreadable('expected "," or "]"')
    return array
  }

  #readString(): string {
    const start = this.#at
    let end = start + 1
    while (end < this.#text.length && this.#text.charAt(end) !== '"') end += this.#text.charAt(end) === '\\' ? 2 : 1
    if (end >= this.#text.length) throw new Unreadable('the string is not closed', start)
    try {
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string
      this.#at = end + 1
      return value
    } catch {
      throw new Unreadable('the string holds a bad escape or a control character', start)
    }
  }

  #readScalar(): unknown {
    for (const [word, value] of LITERALS) {
      if (!this.#text.startsWith(word, this.#at)) continue
      this.#at += word.length
      return value
    }
    NUMBER.lastIndex = this.#at
    const digits = NUMBER.exec(this.#text)?.[0]
    if (digits === undefined) {
      throw this.#unreadable(this.#at < this.#text.length ? 'expected a value' : 'the text ends too early')
    }
    this.#at += digits.length
    return Number(digits)
  }

  #take(char: string): boolean {
    this.#skipBlanks()
    if (this.#text.charAt(this.#at) !== char) return false
    this.#at += 1
    return true
  }

  #skipBlanks(): void {
    while (this.#at < this.#text.length && ' \t\r\n'.includes(this.#text.charAt(this.#at))) this.#at += 1
  }

  #unreadable(message: string): Unreadable {
    return new Unreadable(message, this.#at)
  }
}
