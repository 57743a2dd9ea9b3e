import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

const READ_BYTES = 128 * 1024
/** After a read so soon after another, and so small, what comes next is let collect for a moment. */
const QUICK_MS = 1
const SMALL_READ_BYTES = 16 * 1024
const REST_MS = 1
const PROOF_BYTES = 32
const PROOF_TIMEOUT_MS = 2_000

/** What a process writes to its stdout, as it comes. */
export interface ProcessOutput {
  /**
   * @param onBytes gets bytes that are valid during the call only
   * @param isAwaited whether somebody waits for what comes next, which is then not let collect
   */
  read(onBytes: (bytes: Buffer) => void, isAwaited?: () => boolean): void
  /** Somebody begins to wait for what comes next. */
  hurry(): void
  pause(): void
  resume(): void
  destroy(): void
  /** Resolves when all has been read and nobody holds the other end any more, or after {@link destroy}. */
  readonly closed: Promise<void>
}

/** A local socket: `childEnd` becomes the stdout of a process, which has it alone then; `output` is read here. */
export interface OutputSocket {
  childEnd: Socket
  output: ProcessOutput
}

/**
 * Makes the sockets that codex processes write to. Each is read into one buffer that is used again and again, which
 * Node offers for sockets that connect, not for the pipes that spawn() makes: with those each read has a buffer of its
 * own, and in a flood V8 spends more time on collecting them than the gateway on everything else.
 */
export class OutputSockets {
  readonly #directory: string
  readonly #path: string
  readonly #server: Server
  /** Who waits for the other end of a connection, by what it will say first. */
  readonly #expected = new Map<string, (socket: Socket) => void>()
  /** Made ahead: a start need not wait for it. */
  #next: Promise<OutputSocket> | undefined
  #isClosed = false

  private constructor(directory: string, path: string, server: Server) {
    this.#directory = directory
    this.#path = path
    this.#server = server
    server.on('connection', (socket) => void this.#identify(socket))
  }

  /** Rejects when no local socket can be made in the system's directory for temporary files. */
  static async open(): Promise<OutputSockets> {
    // Short, as a socket's path must be, and of mode 0700.
    const directory = await mkdtemp(join(tmpdir(), 'cloud-codex-'))
    const path = join(directory, 'output')
    const server = createServer({ pauseOnConnect: true })
    try {
      server.listen(path)
      await once(server, 'listening')
    } catch (error) {
      await rm(directory, { recursive: true, force: true })
      throw error
    }
    server.unref()
    const sockets = new OutputSockets(directory, path, server)
    sockets.#makeNext()
    return sockets
  }

  /** Both ends are the caller's. Rejects when the two cannot be connected. */
  async take(): Promise<OutputSocket> {
    const pair = this.#next ?? this.#connect()
    this.#next = undefined
    try {
      return await pair
    } finally {
      this.#makeNext()
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const unused = await this.#next?.catch(() => undefined)
    unused?.childEnd.destroy()
    unused?.output.destroy()
    this.#server.close()
    await rm(this.#directory, { recursive: true, force: true })
  }

  #makeNext(): void {
    if (this.#isClosed) return
    this.#next ??= this.#connect()
    // Whoever takes it hears of the failure.
    this.#next.catch(() => {})
  }

  async #connect(): Promise<OutputSocket> {
    const proof = randomBytes(PROOF_BYTES / 2).toString('hex')
    const reader = new SocketReader(this.#path)
    let timer: NodeJS.Timeout | undefined
    try {
      const childEnd = await new Promise<Socket>((resolve, reject) => {
        this.#expected.set(proof, resolve)
        timer = setTimeout(() => reject(new Error(`no connection through ${this.#path}`)), PROOF_TIMEOUT_MS)
        reader.socket.write(proof, 'latin1')
      })
      return { childEnd, output: reader }
    } catch (error) {
      reader.destroy()
      throw error
    } finally {
      clearTimeout(timer)
      this.#expected.delete(proof)
    }
  }

  /** Others of this account can connect here, too: only who says what is expected becomes the output of a process. */
  async #identify(socket: Socket): Promise<void> {
    socket.on('error', () => socket.destroy())
    const resolve = this.#expected.get(await readProof(socket))
    if (resolve) resolve(socket)
    else socket.destroy()
  }
}

/** The first bytes that the other side says; '' when they do not come in time. */
function readProof(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let shown = ''
    const end = (proof: string) => {
      clearTimeout(timer)
      socket.off('data', onData).off('close', onClose).pause()
      resolve(proof)
    }
    const onData = (bytes: Buffer) => {
      shown += bytes.toString('latin1')
      if (shown.length >= PROOF_BYTES) end(shown)
    }
    const onClose = () => end('')
    const timer = setTimeout(onClose, PROOF_TIMEOUT_MS)
    socket.on('data', onData).once('close', onClose).resume()
  })
}

class SocketReader implements ProcessOutput {
  readonly socket: Socket
  readonly closed: Promise<void>
  #onBytes: (bytes: Buffer) => void = () => {}
  #isAwaited = () => false
  #isHeld = false
  #readAtMs = 0
  #rest: NodeJS.Timeout | undefined

  constructor(path: string) {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
    this.socket = connect({
      path,
      onread: {
        buffer,
        callback: (length) => {
          this.#restAfter(length)
          this.#onBytes(buffer.subarray(0, length))
          return true
        }
      }
    })
    this.socket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      this.socket.once('close', () => {
        clearTimeout(this.#rest)
        resolve()
      })
    })
  }

  read(onBytes: (bytes: Buffer) => void, isAwaited = () => false): void {
    this.#onBytes = onBytes
    this.#isAwaited = isAwaited
  }

  hurry(): void {
    if (this.#rest === undefined) return
    clearTimeout(this.#rest)
    this.#endRest()
  }

  pause(): void {
    this.#isHeld = true
    this.socket.pause()
  }

  resume(): void {
    this.#isHeld = false
    if (this.#rest === undefined) this.socket.resume()
  }

  destroy(): void {
    this.socket.destroy()
  }

  /** codex writes a line at a time: in a flood, waking up for each would cost more than all that is done with it. */
  #restAfter(length: number): void {
    const nowMs = performance.now()
    const sinceMs = nowMs - this.#readAtMs
    this.#readAtMs = nowMs
    if (sinceMs > QUICK_MS || length > SMALL_READ_BYTES || this.#rest !== undefined || this.#isAwaited()) return
    this.socket.pause()
    this.#rest = setTimeout(() => this.#endRest(), REST_MS)
  }

  #endRest(): void {
    this.#rest = undefined
    if (!this.#isHeld) this.socket.resume()
  }
}

/** The pipe that spawn() made, read the same way. */
export function pipedOutput(pipe: Readable): ProcessOutput {
  return {
    read: (onBytes) => void pipe.on('data', onBytes),
    hurry: () => {},
    pause: () => void pipe.pause(),
    resume: () => void pipe.resume(),
    destroy: () => void pipe.destroy(),
    closed: new Promise((resolve) => {
      pipe.once('close', () => resolve())
    })
  }
}
