import { headerLength, writeHeader } from '../journal/frames.ts'
import type { NativeError } from './native-errors.ts'

const RESULT = Buffer.from(',"result":')
const CLOSE = Buffer.from('}')

/** A message whose JSON text these parts are, as a WebSocket frame. */
export function frameOf(...parts: readonly Buffer[]): Buffer {
  let bytes = 0
  for (const part of parts) bytes += part.length
  const frame = Buffer.allocUnsafe(headerLength(bytes) + bytes)
  let at = writeHeader(frame, 0, bytes)
  for (const part of parts) at += part.copy(frame, at)
  return frame
}

/** @param id the JSON text of the client's id @param result the JSON text of codex's result */
export function resultFrame(id: string, result: Buffer): Buffer {
  return frameOf(Buffer.from(`{"id":${id}`), RESULT, result, CLOSE)
}

/** As codex writes it: the error first. */
export function errorFrame(id: string, error: NativeError): Buffer {
  return frameOf(Buffer.from(`{"error":${JSON.stringify(error)},"id":${id}}`))
}

/** A reply line of codex, `{"id":<ours>,"result":<result>}`: its result. Undefined for any other shape. */
export function resultOf(line: Buffer): Buffer | undefined {
  const at = line.indexOf(RESULT)
  // Our ids are integers, so nothing but one stands before it.
  if (at === -1 || !/^\{"id":\d+$/.test(line.toString('latin1', 0, Math.min(at, 32)))) return undefined
  return line.subarray(at + RESULT.length, line.length - 1)
}
