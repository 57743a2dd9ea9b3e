import type { JsonValue } from '../json.ts'

const NOTIFICATION_PREFIX = Buffer.from('{"method":"')
const QUOTE = 0x22
const CLOSE_BRACE = 0x7d
const AFTER_METHOD = Buffer.from(',"params":')
/** Notifications end with `,"emittedAtMs":<13 digits>}`; the search starts this far from the end. */
const TAIL_BYTES = 36
const EMITTED_AT = Buffer.from(',"emittedAtMs":')

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
 * Tells what a line from codex is. A notification (the hot path) is recognised by its first and last bytes, without
 * JSON.parse; everything else, and anything of an unexpected shape, is parsed. Source: PROTOCOL facts of codex 0.169:
 * `{"method":…,"params":…,"emittedAtMs":N}` for notifications, `{"method":…,"id":N,"params":…}` for requests,
 * `{"id":…,"result":…}` and `{"error":…,"id":…}` for replies.
 */
export function classifyLine(line: Buffer): IncomingLine {
  const method = sniffNotification(line)
  if (method !== undefined) return { kind: 'notification', method }
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

/**
 * The method of a line that is certainly a notification, else undefined. The tail is checked too: a request whose id
 * stood after its params would start alike, and taking it for a notification would leave its approval unanswered.
 * Quotes inside JSON strings are escaped, so a tail match is always the top-level field.
 */
function sniffNotification(line: Buffer): string | undefined {
  if (line.length < TAIL_BYTES || line[line.length - 1] !== CLOSE_BRACE) return undefined
  if (line.compare(NOTIFICATION_PREFIX, 0, 11, 0, 11) !== 0) return undefined
  const end = line.indexOf(QUOTE, 11)
  if (end === -1 || line.compare(AFTER_METHOD, 0, 10, end + 1, end + 11) !== 0) return undefined
  const tail = line.indexOf(EMITTED_AT, line.length - TAIL_BYTES)
  if (tail === -1) return undefined
  for (let i = tail + EMITTED_AT.length; i < line.length - 1; i++) {
    const byte = line[i] as number
    if (byte < 0x30 || byte > 0x39) return undefined
  }
  return line.toString('latin1', 11, end)
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
