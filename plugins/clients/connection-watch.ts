/** Close codes of our own (4000-4999), with HTTP's number behind the 4. */
const TOKEN_EXPIRED = 4401
const STALLED = 4408
const NOT_PINGED = -1

/** A client's connection, as far as it is watched. */
export interface WatchedConnection {
  readonly userId: string
  /** Not closed, and not about to be. */
  readonly isOpen: boolean
  /** The gateway itself does not read from it at the moment. */
  readonly isPaused: boolean
  /** Bytes that were sent but have not left this process. */
  readonly unsentBytes: number
  /** Bytes that have left this process since it was opened. */
  readonly sentBytes: number
  /** Bytes that came from the client since it was opened. */
  readonly receivedBytes: number
  /** When its token ends, milliseconds since the epoch; undefined when it does not. */
  readonly expiresAtMs: number | undefined
  /** Asks the client for a sign of life. */
  ping(): void
  close(code: number, reason: string): void
  /** Ends it without a word: there is nobody who would hear it. */
  terminate(): void
}

export interface ConnectionWatchOptions {
  /** A backlog of which no byte leaves this process for so long is the end of its connection. */
  stallTimeoutMs: number
  log: { info(fields: object, message: string): void }
}

interface Backlog {
  sentBytes: number
  movedAtMs: number
}

/**
 * Finds the connections that are dead, stalled or no longer allowed. It looks at all of them in turn, so that a
 * connection needs no timer and no listener of its own.
 */
export class ConnectionWatch {
  readonly #options: ConnectionWatchOptions
  /** With what had come from each when it was pinged. */
  readonly #connections = new Map<WatchedConnection, number>()
  /** Of those only that have something unsent, or had it within the stall timeout. */
  readonly #backlogs = new Map<WatchedConnection, Backlog>()

  constructor(options: ConnectionWatchOptions) {
    this.#options = options
  }

  add(connection: WatchedConnection): void {
    this.#connections.set(connection, NOT_PINGED)
  }

  delete(connection: WatchedConnection): void {
    this.#connections.delete(connection)
    this.#backlogs.delete(connection)
  }

  /** Pings every connection, and ends those from which nothing came since the ping before. */
  beat(): void {
    for (const [connection, receivedBytes] of this.#connections) {
      if (!connection.isOpen) continue
      // The ping waits behind what is unsent, the answer in what the gateway does not read: neither says that it is dead.
      if (connection.isPaused || connection.unsentBytes > 0 || this.#backlogs.has(connection)) {
        this.#connections.set(connection, NOT_PINGED)
      } else if (connection.receivedBytes === receivedBytes) {
        connection.terminate()
      } else {
        this.#connections.set(connection, connection.receivedBytes)
        connection.ping()
      }
    }
  }

  /**
   * Closes what is stalled, and what has outlived its token.
   *
   * @param nowMs of a clock that never jumps: a machine that slept must not take everybody for stalled
   * @param dateMs milliseconds since the epoch
   */
  look(nowMs: number, dateMs: number): void {
    for (const connection of this.#connections.keys()) {
      if (!connection.isOpen) continue
      const { expiresAtMs } = connection
      if (expiresAtMs !== undefined && expiresAtMs <= dateMs) {
        connection.close(TOKEN_EXPIRED, 'the token has expired; reconnect with a fresh one')
      } else {
        this.#lookAtBacklog(connection, nowMs)
      }
    }
  }

  #lookAtBacklog(connection: WatchedConnection, nowMs: number): void {
    const { stallTimeoutMs, log } = this.#options
    const { unsentBytes, sentBytes, userId } = connection
    const backlog = this.#backlogs.get(connection)
    const stillMs = backlog === undefined ? 0 : nowMs - backlog.movedAtMs
    if (unsentBytes === 0) {
      // What has just left may lie in front of the client for a while yet, and the ping behind it.
      if (stillMs >= stallTimeoutMs) this.#backlogs.delete(connection)
    } else if (backlog === undefined || sentBytes > backlog.sentBytes) {
      this.#backlogs.set(connection, { sentBytes, movedAtMs: nowMs })
    } else if (stillMs >= stallTimeoutMs) {
      log.info({ userId, unsentBytes, stillMs: Math.round(stillMs) }, 'a client that reads nothing is closed')
      connection.close(STALLED, `nothing was read for ${stallTimeoutMs} ms; reconnect with the last seq`)
    }
  }
}
