import type { JsonValue } from '../json.ts'

const NOTIFICATION_PREFIX = Buffer.from('{"method":"')
const AFTER_METHOD = Buffer.from('","params":')
const EMITTED_AT = Buffer.from(',"emittedAtMs":')
const QUOTE = 0x22
const CLOSE_BRACE = 0x7d
const ZERO = 0x30
const NINE = 0x39

export type RpcId = string | number

export interface RpcErrorObject {
  code: number
  message: string
  data?: JsonValue
}

export type IncomingLine =
  | { kind: 'notification'; method: string }
  | { kind: 'request'; method: string; id: RpcId; params: JsonValue | undefined }
  | { kind: 'response'; id: RpcId; result: JsonValue }
  | { kind: 'error'; id: RpcId | null; error: RpcErrorObject }
  | { kind: 'garbage'; reason: string }

/**
 * Tells what lines from codex are. A notification (the hot path) is recognised by its first and last bytes, without
 * JSON.parse; everything else, and anything of an unexpected shape, is parsed. Source: PROTOCOL facts of codex 0.169:
 * `{"method":…,"params":…,"emittedAtMs":N}` for notifications, `{"method":…,"id":N,"params":…}` for requests,
 * `{"id":…,"result":…}` and `{"error":…,"id":…}` for replies.
 */
export class LineClassifier {
  /** The method of the line before: in a flood it is the same for thousands of lines. */
  #lastMethod = ''
  #lastMethodBytes = Buffer.alloc(0)

  /**
   * The method of a line that is certainly a notification, else undefined: then ask {@link classifyLine}. The tail is
   * checked too: a request whose id stood after its params would start alike, and taking it for a notification would
   * leave its approval unanswered. Quotes inside JSON strings are escaped, so a tail match is always the top-level field.
   */
  notificationMethod(bytes: Buffer, start: number, end: number): string | undefined {
    const methodStart = start + NOTIFICATION_PREFIX.length
    if (!isAt(NOTIFICATION_PREFIX, bytes, start, end) || !endsWithTime(bytes, methodStart, end)) return undefined
    const lastEnd = methodStart + this.#lastMethodBytes.length
    if (
      this.#lastMethodBytes.length > 0 &&
      isAt(this.#lastMethodBytes, bytes, methodStart, end) &&
      isAt(AFTER_METHOD, bytes, lastEnd, end)
    ) {
      return this.#lastMethod
    }
    const methodEnd = bytes.indexOf(QUOTE, methodStart)
    if (methodEnd === -1 || !isAt(AFTER_METHOD, bytes, methodEnd, end)) return undefined
    this.#lastMethodBytes = Buffer.from(bytes.subarray(methodStart, methodEnd))
    this.#lastMethod = bytes.toString('latin1', methodStart, methodEnd)
    return this.#lastMethod
  }
}

function isAt(pattern: Buffer, bytes: Buffer, start: number, end: number): boolean {
  const length = pattern.length
  if (start + length > end) return false
  for (let index = 0; index < length; index++) if (bytes[start + index] !== pattern[index]) return false
  return true
}

/** Whether the line ends with `,"emittedAtMs":<digits>}`. */
function endsWithTime(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[end - 1] !== CLOSE_BRACE) return false
  let digit = end - 2
  while (digit > start && (bytes[digit] as number) >= ZERO && (bytes[digit] as number) <= NINE) digit--
  const tail = digit + 1 - EMITTED_AT.length
  return digit < end - 2 && tail > start && isAt(EMITTED_AT, bytes, tail, end)
}

/** What a line is that {@link LineClassifier} does not take for a notification. */
export function classifyLine(line: Buffer): IncomingLine {
  let message: unknown
  try {
    message = JSON.parse(line.toString('utf8'))
  } catch {
    return { kind: 'garbage', reason: 'not JSON' }
  }
  if (typeof message !== 'object' || message === null || Array.isArray(message)) {
    return { kind: 'garbage', reason: 'not an object' }
  }
  return classifyParsed(message as Record<string, JsonValue>)
}

function classifyParsed(message: Record<string, JsonValue>): IncomingLine {
  const { id, method } = message
  if (typeof method === 'string') {
    if (id === undefined) return { kind: 'notification', method }
    if (!isRpcId(id)) return { kind: 'garbage', reason: 'a request id that is neither string nor integer' }
    return { kind: 'request', method, id, params: message.params }
  }
  if (isErrorObject(message.error)) return { kind: 'error', id: isRpcId(id) ? id : null, error: message.error }
  if (isRpcId(id) && message.result !== undefined) return { kind: 'response', id, result: message.result }
  return { kind: 'garbage', reason: 'neither request, notification nor reply' }
}

function isRpcId(value: unknown): value is RpcId {
  return typeof value === 'string' || Number.isSafeInteger(value)
}

function isErrorObject(value: JsonValue | undefined): value is RpcErrorObject & { [key: string]: JsonValue } {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    typeof value.code === 'number' &&
    typeof value.message === 'string'
  )
}
