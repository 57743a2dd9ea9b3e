import type { Socket } from 'node:net'

/** A socket of node:net. What libuv holds of it is not told by its public properties. */
type RawSocket = Socket & { _handle?: { bytesWritten: number; writeQueueSize: number } | null }

/** Bytes that have left this process through the socket since it was opened. */
export function sentBytes(socket: RawSocket): number {
  const { _handle: handle } = socket
  // By the handle: a large write counts as unsent as a whole until its last byte is gone, however well it moves.
  return handle ? handle.bytesWritten - handle.writeQueueSize : socket.bytesWritten - socket.writableLength
}
