import { isUtf8 } from 'node:buffer'

/** RFC 6455: FIN and opcode 1, a whole text message in one frame. */
const TEXT_FRAME = 0x81
const LENGTH_IN_16_BITS = 126
const LENGTH_IN_64_BITS = 127

/** How long the header of a frame with so many payload bytes is. */
export function headerLength(payloadBytes: number): number {
  return payloadBytes < LENGTH_IN_16_BITS ? 2 : payloadBytes < 0x10000 ? 4 : 10
}

/** Writes the header of a server's text frame at `at`; returns where the payload begins. */
export function writeHeader(target: Buffer, at: number, payloadBytes: number): number {
  target[at] = TEXT_FRAME
  if (payloadBytes < LENGTH_IN_16_BITS) {
    target[at + 1] = payloadBytes
    return at + 2
  }
  if (payloadBytes < 0x10000) {
    target[at + 1] = LENGTH_IN_16_BITS
    target[at + 2] = payloadBytes >>> 8
    target[at + 3] = payloadBytes & 0xff
    return at + 4
  }
  target[at + 1] = LENGTH_IN_64_BITS
  target.writeUInt32BE(0, at + 2)
  target.writeUInt32BE(payloadBytes, at + 6)
  return at + 10
}

/** One text message (JSON) as a frame. */
export function encodeFrame(message: unknown): Buffer {
  const text = JSON.stringify(message)
  const bytes = Buffer.byteLength(text)
  const frame = Buffer.allocUnsafe(headerLength(bytes) + bytes)
  frame.write(text, writeHeader(frame, 0, bytes), 'utf8')
  return frame
}

/** The payloads of frames that {@link writeHeader} headed, in order; views, not copies. */
export function* messagesIn(frames: Buffer): Generator<Buffer> {
  for (let at = 0; at < frames.length; ) {
    const start = payloadStart(frames, at)
    at = frameEnd(frames, at)
    yield frames.subarray(start, at)
  }
}

/** How many frames these bytes are; undefined when they are anything else than whole frames of text. */
export function countFrames(frames: Buffer): number | undefined {
  let count = 0
  for (let at = 0; at < frames.length; count++) {
    const start = payloadStart(frames, at)
    if (frames[at] !== TEXT_FRAME || start > frames.length) return undefined
    at = frameEnd(frames, at)
    if (at > frames.length || !isUtf8(frames.subarray(start, at))) return undefined
  }
  return count
}

/** Where the frame that begins `count` frames after `at` begins. */
export function skipFrames(frames: Buffer, at: number, count: number): number {
  let position = at
  for (let skipped = 0; skipped < count; skipped++) position = frameEnd(frames, position)
  return position
}

/** Where the payload of the frame begins that begins at `at`. */
export function payloadStart(frames: Buffer, at: number): number {
  const length = frames[at + 1] as number
  return at + (length < LENGTH_IN_16_BITS ? 2 : length === LENGTH_IN_16_BITS ? 4 : 10)
}

/** Where the frame ends that begins at `at`. */
export function frameEnd(frames: Buffer, at: number): number {
  const length = frames[at + 1] as number
  if (length < LENGTH_IN_16_BITS) return at + 2 + length
  if (length === LENGTH_IN_16_BITS) return at + 4 + (((frames[at + 2] as number) << 8) | (frames[at + 3] as number))
  return at + 10 + frames.readUInt32BE(at + 6)
}
