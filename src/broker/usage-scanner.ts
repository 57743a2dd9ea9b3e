import { asObject, asText, type JsonObject, type JsonValue } from '../json.ts'

/** What one answer of the model took, in tokens. */
export interface ModelUsage {
  inputTokens: number
  /** The part of `inputTokens` that the endpoint had cached. */
  cachedInputTokens: number
  outputTokens: number
  /** As the endpoint calls it; undefined when it does not say. */
  model: string | undefined
}

const LINE_FEED = 10
/** The type of an event stands at the beginning of its line. */
const HEAD_BYTES = 160
/** The last event repeats the whole answer. */
const MAX_EVENT_BYTES = 32 * 1024 * 1024
const LAST_EVENT = /^data:\s*\{.{0,100}?"type"\s*:\s*"response\.(?:completed|incomplete|failed)"/s

/**
 * Finds the usage in a stream of server-sent events, from bytes as they come: each line is looked at by its beginning,
 * and only the last event, which has the usage, is kept and parsed.
 */
export class UsageScanner {
  #usage: ModelUsage | undefined
  /** The beginning of the line that is not whole yet, or all of it when it may be the last event. */
  #line: Buffer[] = []
  #lineBytes = 0
  #isKept = false

  /** What the stream has said so far; undefined before its last event. */
  get usage(): ModelUsage | undefined {
    return this.#usage
  }

  push(bytes: Buffer): void {
    let start = 0
    for (let end = bytes.indexOf(LINE_FEED); end !== -1; end = bytes.indexOf(LINE_FEED, start)) {
      this.#append(bytes, start, end)
      this.#endLine()
      start = end + 1
    }
    this.#append(bytes, start, bytes.length)
  }

  #append(bytes: Buffer, start: number, end: number): void {
    if (start === end) return
    if (this.#isKept || this.#lineBytes < HEAD_BYTES) {
      const part = bytes.subarray(start, end)
      this.#isKept ||= this.#mayBeLast(part)
      // What is not kept is told apart by its beginning alone.
      this.#line.push(this.#isKept ? part : part.subarray(0, HEAD_BYTES))
    }
    this.#lineBytes += end - start
    if (this.#lineBytes > MAX_EVENT_BYTES) this.#forget()
  }

  #mayBeLast(part: Buffer): boolean {
    const begun = this.#line.map((piece) => piece.toString('latin1')).join('')
    return LAST_EVENT.test(begun + part.toString('latin1', 0, Math.min(part.length, HEAD_BYTES)))
  }

  #endLine(): void {
    if (this.#isKept) this.#usage = readUsage(Buffer.concat(this.#line).toString('utf8')) ?? this.#usage
    this.#forget()
    this.#lineBytes = 0
  }

  #forget(): void {
    this.#line = []
    this.#isKept = false
  }
}

function readUsage(line: string): ModelUsage | undefined {
  let event: JsonValue
  try {
    event = JSON.parse(line.slice('data:'.length)) as JsonValue
  } catch {
    return undefined
  }
  const response = asObject(asObject(event).response)
  const usage = asObject(response.usage)
  if (usage.input_tokens === undefined && usage.output_tokens === undefined) return undefined
  return {
    inputTokens: count(usage, 'input_tokens'),
    cachedInputTokens: count(asObject(usage.input_tokens_details), 'cached_tokens'),
    outputTokens: count(usage, 'output_tokens'),
    model: asText(response.model)
  }
}

function count(usage: JsonObject, field: string): number {
  const value = usage[field]
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0
}
