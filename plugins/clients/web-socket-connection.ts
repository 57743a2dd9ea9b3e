import type { Socket } from 'node:net'
import type { RawData, WebSocket } from 'ws'
import type { Identity } from '../../schemas/identity.ts'
import type { ClientSink, SessionClient } from '../../src/session/client.ts'
import type { ConnectionWatch, WatchedConnection } from './connection-watch.ts'
import { sentBytes } from './sent-bytes.ts'

/** Messages of one client that are worked on at once; the rest waits in its socket, not in our memory. */
const MAX_IN_WORK = 64
/** A client that does not read its answers is not read from either. */
const MAX_UNREAD_BYTES = 1024 * 1024

const kConnection = Symbol('connection')
type OwnedSocket = WebSocket & { [kConnection]: WebSocketConnection }

interface Message {
  data: Buffer
  isBinary: boolean
}

/** What the messages of a client come through; it speaks the client's protocol. */
export interface Door {
  /** Who is asking; it may change. */
  readonly identity: Identity
  /** Its place in the session. */
  readonly client: SessionClient
  /** Must not reject. */
  handle(data: Buffer, isBinary: boolean): Promise<void>
  /** The client is gone. */
  close(): void
}

/**
 * One socket of a client: its place in the session, its end. There are thousands of them, most of them idle: it holds neither
 * the request that it came with nor functions of its own.
 */
export class WebSocketConnection implements ClientSink, WatchedConnection {
  readonly #socket: WebSocket
  readonly #raw: Socket
  readonly #watch: ConnectionWatch
  readonly #door: Door
  readonly #waiting: Message[] = []
  #inWork = 0
  #isDraining = false

  /**
   * Lets an upgraded socket speak through a door, until it closes.
   *
   * @param raw the connection below it
   * @param openDoor attaches the connection to its user's session
   */
  static attach(socket: WebSocket, raw: Socket, watch: ConnectionWatch, openDoor: (sink: ClientSink) => Door): void {
    const connection = new WebSocketConnection(socket, raw, watch, openDoor)
    ;(socket as OwnedSocket)[kConnection] = connection
    watch.add(connection)
    socket.on('message', onMessage)
    socket.on('close', onClose)
  }

  private constructor(socket: WebSocket, raw: Socket, watch: ConnectionWatch, openDoor: (sink: ClientSink) => Door) {
    // Frames that are written past ws know nothing of an extension that ws has agreed on.
    if (socket.extensions !== '') throw new Error(`the socket has extensions: ${socket.extensions}`)
    this.#socket = socket
    this.#raw = raw
    this.#watch = watch
    this.#door = openDoor(this)
  }

  get userId(): string {
    return this.#door.identity.userId
  }

  get isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN
  }

  get isPaused(): boolean {
    return this.#socket.isPaused
  }

  get unsentBytes(): number {
    return this.#socket.bufferedAmount
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount
  }

  get sentBytes(): number {
    return sentBytes(this.#raw)
  }

  get receivedBytes(): number {
    return this.#raw.bytesRead
  }

  get expiresAtMs(): number | undefined {
    return this.#door.identity.expiresAtMs
  }

  send(frames: readonly Buffer[]): void {
    // Past ws, which would copy and head each message anew; after its close frame nothing may follow.
    if (!this.isOpen) return
    // One system call for all of them.
    if (frames.length > 1) this.#raw.cork()
    for (const frame of frames) this.#raw.write(frame)
    if (frames.length > 1) this.#raw.uncork()
  }

  onDrained(callback: () => void): void {
    if (this.#raw.writableNeedDrain) this.#raw.once('drain', callback)
    else setImmediate(callback)
  }

  ping(): void {
    this.#socket.ping()
  }

  /** Sent by ws behind what is unsent. Ends the delivery too. */
  close(code: number, reason: string): void {
    this.#door.client.detach()
    this.#socket.close(code, reason)
  }

  terminate(): void {
    this.#socket.terminate()
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    this.#waiting.push({ data, isBinary })
    this.#work()
  }

  onClose(): void {
    this.#watch.delete(this)
    this.#door.close()
  }

  #work(): void {
    while (this.#inWork < MAX_IN_WORK && this.bufferedBytes <= MAX_UNREAD_BYTES) {
      const message = this.#waiting.shift()
      if (!message) {
        this.#socket.resume()
        return
      }
      this.#inWork++
      void this.#door.handle(message.data, message.isBinary).then(() => {
        this.#inWork--
        this.#work()
      })
    }
    this.#socket.pause()
    if (this.#inWork === 0) this.#workWhenDrained()
  }

  #workWhenDrained(): void {
    if (this.#isDraining) return
    this.#isDraining = true
    this.onDrained(() => {
      this.#isDraining = false
      this.#work()
    })
  }
}

// Shared by all sockets: a function for each would live as long as the socket, with all that it can see.
function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
  ;(this as OwnedSocket)[kConnection].onMessage(data as Buffer, isBinary)
}

function onClose(this: WebSocket): void {
  ;(this as OwnedSocket)[kConnection].onClose()
}
