import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export interface RawFrame {
  payload?: Buffer
  /** 1 text, 2 binary, 0 continuation, 8 close, 9 ping, 10 pong; the others are nobody's. */
  opcode?: number
  /** Default true. */
  fin?: boolean
  /** The three reserved bits, 0 to 7. */
  reserved?: number
  /** Default true, as a client must. */
  masked?: boolean
  /** What the header says instead of the truth. */
  length?: bigint
}

const MASK = Buffer.from([0x37, 0xfa, 0x21, 0x3d])

/** The bytes of a frame (RFC 6455, 5.2), however wrong. */
export function encodeRawFrame(frame: RawFrame): Buffer {
  const { payload = Buffer.alloc(0), opcode = 1, fin = true, reserved = 0, masked = true } = frame
  const length = frame.length ?? BigInt(payload.length)
  const size = length < 126n ? 0 : length < 65_536n ? 2 : 8
  const head = Buffer.alloc(2 + size)
  head[0] = (fin ? 0x80 : 0) | (reserved << 4) | opcode
  head[1] = (masked ? 0x80 : 0) | (size === 0 ? Number(length) : size === 2 ? 126 : 127)
  if (size === 2) head.writeUInt16BE(Number(length), 2)
  if (size === 8) head.writeBigUInt64BE(length, 2)
  if (!masked) return Buffer.concat([head, payload])
  const hidden = Buffer.from(payload)
  for (let n = 0; n < hidden.length; n++) hidden[n] = (hidden[n] as number) ^ (MASK[n & 3] as number)
  return Buffer.concat([head, MASK, hidden])
}

export const textFrame = (text: string | Buffer): Buffer => encodeRawFrame({ payload: Buffer.from(text) })

const UPGRADE = { upgrade: 'websocket', connection: 'Upgrade', 'sec-websocket-version': '13' }
const HEAD_END = '\r\n\r\n'

/** A TCP connection that has been upgraded to a WebSocket, and on which anything at all can be written. */
export class RawWebSocket {
  /** Everything that came, the answer to the upgrade included. */
  received = Buffer.alloc(0)
  readonly #socket: Socket
  #isClosed = false
  #onNews = () => {}

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk])
      this.#onNews()
    })
    socket.once('close', () => {
      this.#isClosed = true
      this.#onNews()
    })
  }

  /** Rejects when the answer is not 101. */
  static async open(
    address: string,
    path: string,
    headers: Record<string, string>,
    timeoutMs: number
  ): Promise<RawWebSocket> {
    const [host = '', port] = address.split(':')
    const raw = new RawWebSocket(connect(Number(port), host))
    const key = randomBytes(16).toString('base64')
    const all = { host: address, ...UPGRADE, 'sec-websocket-key': key, ...headers }
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
    await raw.write(Buffer.from(`GET ${path} HTTP/1.1\r\n${lines.join('\r\n')}${HEAD_END}`))
    await raw.until(Buffer.from(HEAD_END), timeoutMs)
    const answer = raw.received.toString('latin1')
    if (!answer.startsWith('HTTP/1.1 101')) throw new Error(`no upgrade: ${answer}`)
    return raw
  }

  /** Resolves when the bytes are the kernel's, or the connection is gone. */
  write(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => this.#socket.write(bytes, () => resolve()))
  }

  /** Resolves when this has come, or the connection is gone; rejects when neither happens in time. */
  until(bytes: Buffer, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
      this.#onNews = () => {
        if (!this.#isClosed && !this.received.includes(bytes)) return
        clearTimeout(timer)
        resolve()
      }
      this.#onNews()
    })
  }

  /** Ends our side, and waits for the other to end its own. */
  async end(): Promise<void> {
    if (this.#isClosed) return
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()))
    this.#socket.end()
    await closed
  }
}
