import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { ProcessPool } from '../codex/pool.ts'
import type { CodexProcess, ProcessHandlers } from '../codex/process.ts'
import type { DocumentStore } from '../stores/document-store.ts'
import type { SessionStore } from '../stores/session-store.ts'
import { CLOSING, closeReason, drawRetryAfterMs, shuttingDown } from './closing.ts'
import { Reclaimer } from './reclaimer.ts'
import { Session } from './session.ts'
import type { SessionOptions } from './session-options.ts'
import { SessionState, usersWithPendingApprovals } from './session-state.ts'

/** How often sessions are looked over for idleness, at most. */
const MAX_SWEEP_INTERVAL_MS = 30_000
/** WebSocket close code "going away" for clients of a gateway that ends. */
const GOING_AWAY = 1001
/** How often a drain looks whether all is done. */
const DRAIN_POLL_MS = 50
/** Processes that are taken back in one sweep while memory is short. */
const RECLAIMED_PER_SWEEP = 3

export interface SessionsOptions
  extends Pick<
    SessionOptions,
    'approvalMode' | 'requestTimeoutMs' | 'log' | 'decide' | 'record' | 'recorded' | 'onApproval'
  > {
  pool: ProcessPool
  store: SessionStore
  documents: DocumentStore
  openJournal(userId: string, onPressure: (isHigh: boolean) => void): Promise<SessionOptions['journal']>
  /** A process with nothing to do for this long is stopped. */
  idleTimeoutMs: number
  /** A session without clients and process is taken out of memory after this long. */
  forgetAfterMs: number
  /** With less memory than this available, processes that are idle are stopped before their time. */
  memoryReserveBytes: number
  /** How much there is. Must not reject. */
  availableMemoryBytes(): Promise<number>
}

/** All live sessions of this gateway, one per user. */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #sessions = new Map<string, Promise<Session>>()
  readonly #live = new Map<string, Session>()
  readonly #retiring = new Map<string, Promise<void>>()
  readonly #reclaimer = new Reclaimer(() => this.list().map(({ activity }) => activity))
  readonly #sweepTimer: NodeJS.Timeout
  /** When each session's clients may come back; set once the gateway is about to end. */
  readonly #retryAfterMs = new WeakMap<Session, number>()
  #leavingClients = 0
  #isDraining = false
  #isClosed = false

  constructor(options: SessionsOptions) {
    this.#options = options
    const intervalMs = Math.min(options.idleTimeoutMs / 2, MAX_SWEEP_INTERVAL_MS)
    this.#sweepTimer = setInterval(() => this.#sweep(Date.now()), intervalMs)
  }

  /** Whether the gateway is about to end: no session is opened, no turn or thread is started any more. */
  get isDraining(): boolean {
    return this.#isDraining
  }

  /**
   * The user's session, opened if need be. Throws StoreUnavailable, or ShuttingDown for a session that is not open
   * when the gateway is about to end.
   */
  open(userId: string): Promise<Session> {
    const known = this.#sessions.get(userId)
    // Who lost the connection meanwhile may come back to a turn that may still finish, and to its approvals.
    if (known && !this.#isClosed) {
      // Somebody is about to use it: it must not be retired meanwhile.
      known.then((session) => session.touch()).catch(() => {})
      return known
    }
    if (this.#isDraining) return Promise.reject(shuttingDown(drawRetryAfterMs(this.#leavingClients)))
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
      if (!this.#isClosed) log.error({ err: error }, 'approvals of an earlier gateway wait until their user comes back')
    }
    const userIds = await usersWithPendingApprovals(documents).catch(report)
    for (const userId of userIds ?? []) {
      const session = await this.open(userId).catch(report)
      // Asking codex for the ends of turns takes a process; one that nobody uses stays no longer.
      if (session?.clientCount === 0) await session.activity.hibernate('idle')
    }
  }

  /** The user's session if it is open. */
  find(userId: string): Session | undefined {
    return this.#live.get(userId)
  }

  /** All open sessions. */
  list(): Session[] {
    return [...this.#live.values()]
  }

  /**
   * Refuses new work and tells the clients when to come back, then waits for the turns, approvals and requests there
   * are: until they have ended, for `timeoutMs` at most, or until `signal` cuts it short.
   */
  async drain(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.#beginDrain()
    const endMs = performance.now() + timeoutMs
    while (performance.now() < endMs && !signal?.aborted && this.list().some(({ activity }) => activity.isBusy)) {
      await delay(DRAIN_POLL_MS, undefined, signal && { signal }).catch(() => {})
    }
  }

  /** Settles what is pending, stops every process, closes every client. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#beginDrain()
    clearInterval(this.#sweepTimer)
    await Promise.allSettled(this.#sessions.values())
    const closing = this.list().map((session) => {
      const retryAfterMs = this.#retryAfterMs.get(session) ?? drawRetryAfterMs(this.#leavingClients)
      return session.close(GOING_AWAY, closeReason(retryAfterMs))
    })
    await Promise.all([...this.#retiring.values(), ...closing])
  }

  #beginDrain(): void {
    if (this.#isDraining) return
    this.#isDraining = true
    const sessions = this.list()
    this.#leavingClients = sessions.reduce((sum, { clientCount }) => sum + clientCount, 0)
    for (const session of sessions) this.#announceEnd(session)
  }

  #announceEnd(session: Session): void {
    const retryAfterMs = drawRetryAfterMs(this.#leavingClients)
    this.#retryAfterMs.set(session, retryAfterMs)
    session.drain(CLOSING, retryAfterMs)
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
      launcher: pool.launcher,
      startProcess: (user, handlers, signal) => this.#startProcess(user, handlers, signal),
      directories,
      journal,
      state,
      stored,
      userId,
      sessionId: record.sessionId
    })
    await session.recover()
    this.#live.set(userId, session)
    if (this.#isDraining) this.#announceEnd(session)
    return session
  }

  #startProcess(userId: string, handlers: ProcessHandlers, signal: AbortSignal): Promise<CodexProcess> {
    // Beside the start, not before it: the file system's answer is not worth a wait.
    void this.#relieveMemory(1)
    return this.#options.pool.start(userId, handlers, signal, () =>
      this.#reclaimer.reclaim('idle, its place was needed')
    )
  }

  async #relieveMemory(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      if ((await this.#options.availableMemoryBytes()) >= this.#options.memoryReserveBytes) return
      if (!(await this.#reclaimer.reclaim('idle, its memory was needed'))) return
    }
  }

  #sweep(nowMs: number): void {
    void this.#relieveMemory(RECLAIMED_PER_SWEEP)
    const { idleTimeoutMs, forgetAfterMs } = this.#options
    for (const session of this.#live.values()) {
      const { activity, hasProcess } = session
      const idleMs = nowMs - activity.lastActiveAtMs
      if (activity.isBusy || idleMs < idleTimeoutMs) continue
      // A process that has not said for as long again whether it is idle does not answer at all.
      if (hasProcess) void (idleMs < 2 * idleTimeoutMs ? activity.hibernate('idle') : session.stopProcess('idle'))
      else if (nowMs - session.lastUsedAtMs > forgetAfterMs) this.#retireUnused(session)
    }
  }

  /** Takes a session that nobody uses out of memory. The user's next one waits until its journal is closed. */
  #retireUnused(session: Session): void {
    const { userId, clientCount, isWriting } = session
    if (clientCount > 0 || isWriting) return
    this.#live.delete(userId)
    this.#sessions.delete(userId)
    const retiring = session.retire().finally(() => {
      if (this.#retiring.get(userId) === retiring) this.#retiring.delete(userId)
    })
    this.#retiring.set(userId, retiring)
  }
}
