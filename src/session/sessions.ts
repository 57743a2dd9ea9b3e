import { randomBytes } from 'node:crypto'
import { ShuttingDown } from '../../errors.ts'
import type { DocumentStore } from '../stores/document-store.ts'
import type { SessionStore } from '../stores/session-store.ts'
import { Session } from './session.ts'
import type { SessionOptions } from './session-options.ts'
import { SessionState, usersWithPendingApprovals } from './session-state.ts'

/** How often sessions are looked over for idleness, at most. */
const MAX_SWEEP_INTERVAL_MS = 30_000
/** WebSocket close code "going away" and its reason, for clients of a gateway that ends. */
const GOING_AWAY = 1001

export interface SessionsOptions
  extends Pick<
    SessionOptions,
    'pool' | 'approvalMode' | 'requestTimeoutMs' | 'log' | 'decide' | 'record' | 'recorded' | 'onApproval'
  > {
  store: SessionStore
  documents: DocumentStore
  openJournal(userId: string, onPressure: (isHigh: boolean) => void): Promise<SessionOptions['journal']>
  /** A process with nothing to do for this long is stopped. */
  idleTimeoutMs: number
  /** A session without clients and process is taken out of memory after this long. */
  forgetAfterMs: number
}

/** All live sessions of this gateway, one per user. */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #sessions = new Map<string, Promise<Session>>()
  readonly #live = new Map<string, Session>()
  readonly #retiring = new Map<string, Promise<void>>()
  readonly #sweepTimer: NodeJS.Timeout
  #closed = false

  constructor(options: SessionsOptions) {
    this.#options = options
    const intervalMs = Math.min(options.idleTimeoutMs / 2, MAX_SWEEP_INTERVAL_MS)
    this.#sweepTimer = setInterval(() => this.#sweep(Date.now()), intervalMs)
  }

  /** The user's session, opened if need be. Throws ShuttingDown or StoreUnavailable. */
  open(userId: string): Promise<Session> {
    if (this.#closed) return Promise.reject(new ShuttingDown())
    const known = this.#sessions.get(userId)
    if (known) {
      // Somebody is about to use it: it must not be retired meanwhile.
      known.then((session) => session.touch()).catch(() => {})
      return known
    }
    const opening = this.#open(userId)
    this.#sessions.set(userId, opening)
    opening.catch(() => this.#sessions.delete(userId))
    return opening
  }

  /**
   * Opens the sessions of users for whom a gateway that was killed left approvals that wait, so that these end also when
   * nobody comes back. Never rejects.
   */
  async recover(): Promise<void> {
    const { documents, log } = this.#options
    const report = (error: Error): undefined => {
      if (!this.#closed) log.error({ err: error }, 'approvals of an earlier gateway wait until their user comes back')
    }
    const userIds = await usersWithPendingApprovals(documents).catch(report)
    for (const userId of userIds ?? []) await this.open(userId).catch(report)
  }

  /** The user's session if it is open. */
  find(userId: string): Session | undefined {
    return this.#live.get(userId)
  }

  /** All open sessions. */
  list(): Session[] {
    return [...this.#live.values()]
  }

  /** Settles what is pending, stops every process, closes every client. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweepTimer)
    await Promise.allSettled(this.#sessions.values())
    await Promise.all([
      ...this.#retiring.values(),
      ...this.list().map((session) => session.close(GOING_AWAY, 'the service is shutting down'))
    ])
  }

  async #open(userId: string): Promise<Session> {
    const { store, documents, openJournal, pool, ...rest } = this.#options
    await this.#retiring.get(userId)
    const nowMs = Date.now()
    const sessionId = `sess_${randomBytes(12).toString('base64url')}`
    const record = await store.ensure({ userId, sessionId, createdAtMs: nowMs, lastActiveAtMs: nowMs })
    await store.put({ ...record, lastActiveAtMs: nowMs })
    const directories = await pool.prepareDirectories(userId)
    const state = new SessionState(documents, userId, (error) => {
      rest.log.warn({ userId, err: error }, 'the state of a session is not stored')
    })
    const stored = await state.load()
    const journal = await openJournal(userId, (isHigh) => this.#live.get(userId)?.holdOutput(isHigh))
    const session = new Session({
      ...rest,
      pool,
      directories,
      journal,
      state,
      stored,
      userId,
      sessionId: record.sessionId
    })
    await session.recover()
    this.#live.set(userId, session)
    return session
  }

  #sweep(nowMs: number): void {
    for (const session of this.#live.values()) {
      const idleMs = nowMs - session.lastActiveAtMs
      if (session.isBusy || idleMs < this.#options.idleTimeoutMs) continue
      if (session.hasProcess) void session.stopProcess('idle')
      else if (session.clientCount === 0 && idleMs > this.#options.forgetAfterMs) this.#retire(session)
    }
  }

  /** Takes a session that nobody uses out of memory. The user's next one waits until its journal is closed. */
  #retire(session: Session): void {
    const { userId } = session
    this.#live.delete(userId)
    this.#sessions.delete(userId)
    const retiring = session.retire().finally(() => {
      if (this.#retiring.get(userId) === retiring) this.#retiring.delete(userId)
    })
    this.#retiring.set(userId, retiring)
  }
}
