import { setImmediate as nextLoop } from 'node:timers/promises'
import type { Approval, ApprovalResolved, RespondBody, SessionRule } from '../../schemas/approvals.ts'
import type { SessionState, SessionStateName } from '../../schemas/server-messages.ts'
import type { UsageLimit } from '../../schemas/usage.ts'
import type { PendingCall } from '../approvals/ledger-entry.ts'
import { describeExit, type ProcessExit } from '../codex/process.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'
import type { Journal } from '../journal/journal.ts'
import { Activity } from './activity.ts'
import type { Actor, RequestResult } from './actor.ts'
import { ApprovalDesk } from './approval-desk.ts'
import { Broadcast } from './broadcast.ts'
import type { ClientSink, ResumeFrom, SessionClient } from './client.ts'
import { refuseNewWork } from './closing.ts'
import { CodexCalls, type RequestWatch } from './codex-calls.ts'
import { ProcessKeeper } from './process-keeper.ts'
import { type Handshake, ProcessNotices } from './process-notices.ts'
import type { SessionOptions } from './session-options.ts'
import { readsMethod, ThreadTracker } from './thread-tracker.ts'
import { interruptTurns, recoverTurns } from './turn-recovery.ts'

/** One user's live session: at most one codex process, any number of clients, one journal, one approval ledger. */
export class Session {
  readonly userId: string
  readonly sessionId: string
  readonly directories: UserDirectories
  readonly view: UserDirectories
  readonly activity: Activity
  readonly #options: SessionOptions
  readonly #desk: ApprovalDesk
  readonly #tracker: ThreadTracker
  readonly #broadcast: Broadcast
  readonly #calls: CodexCalls
  readonly #keeper: ProcessKeeper
  readonly #notices = new ProcessNotices()
  #state: SessionState = { state: 'cold' }
  #lastUsedAtMs = Date.now()

  constructor(options: SessionOptions) {
    this.#options = options
    this.userId = options.userId
    this.sessionId = options.sessionId
    this.directories = options.directories
    this.view = options.launcher.view(options.directories)
    this.#broadcast = new Broadcast(options.journal, () => ({
      threads: this.#tracker.summaries(),
      pendingApprovals: this.pendingApprovals()
    }))
    const { state, stored } = options
    this.#tracker = new ThreadTracker((requestId) => this.#desk.onResolvedByCodex(requestId), state, stored.threads)
    this.#calls = new CodexCalls({
      tracker: this.#tracker,
      directories: this.directories,
      view: this.view,
      approvalMode: options.approvalMode,
      timeoutMs: options.requestTimeoutMs,
      onMismatch: (method, mismatches) => {
        const fields = { userId: this.userId, method, mismatches }
        options.log.error(fields, 'codex runs a thread under another policy than the gateway’s')
      }
    })
    this.#desk = new ApprovalDesk({
      session: this,
      services: options,
      emit: (event) => this.#broadcast.emit(event.type, event.payload),
      onExpired: (approval, defaultAction) => this.#onExpired(approval, defaultAction),
      onUnrecordable: (error) => this.#onUnrecordable(error)
    })
    this.#keeper = new ProcessKeeper({
      start: (handlers, signal) => options.startProcess(this.userId, handlers, signal),
      onNotification: (method, bytes, start, end) => {
        if (readsMethod(method)) this.#tracker.onNotification(method, bytes.subarray(start, end))
        else if (!this.#notices.passes(method, bytes, start, end)) return
        this.#broadcast.append('event', bytes, start, end)
      },
      onRequest: (call) => this.#desk.onServerRequest(call, this.#tracker),
      onBatchEnd: () => this.#onBatchEnd(),
      onGarbage: (reason) => options.log.warn({ userId: this.userId, reason }, 'unreadable line from codex'),
      onReady: () => {
        this.activity.touch()
        this.#setState({ state: 'ready' })
      },
      onFailed: (error) => this.#setState({ state: 'failed', reason: error.message }),
      onEnd: (exit, reason) => this.#onProcessEnd(exit, reason)
    })
    this.activity = new Activity({
      keeper: this.#keeper,
      isWorking: () => this.#tracker.runningTurns > 0 || this.#desk.isBusy,
      hasBackgroundTerminals: (process) => this.#calls.hasBackgroundTerminals(process)
    })
  }

  get state(): SessionStateName {
    return this.#state.state
  }

  get clientCount(): number {
    return this.#broadcast.clientCount
  }

  /** When somebody came for it, or its process did something. */
  get lastUsedAtMs(): number {
    return Math.max(this.#lastUsedAtMs, this.activity.lastActiveAtMs)
  }

  get hasProcess(): boolean {
    return this.#keeper.hasProcess
  }

  /** Something is not written yet, as the store is away: it must not be taken out of memory. */
  get isWriting(): boolean {
    return this.#options.state.isWriting
  }

  /** Somebody is about to use it. */
  touch(): void {
    this.#lastUsedAtMs = Date.now()
  }

  /** For readers; clients that stay {@link attach}. */
  get journal(): Journal {
    return this.#options.journal
  }

  /** Whether the process has loaded this thread. */
  isLoaded(threadId: string): boolean {
    return this.#tracker.isLoaded(threadId)
  }

  /** Whether the gateway has seen this thread here. One that is only in codex's history it has not. */
  hasThread(threadId: string): boolean {
    return this.#tracker.summaries().some((thread) => thread.threadId === threadId)
  }

  pendingApprovals(): Approval[] {
    return this.#desk.pending()
  }

  /** See {@link ApprovalDesk.pendingCall}. */
  pendingCall(approvalId: string): PendingCall | undefined {
    return this.#desk.pendingCall(approvalId)
  }

  /** See {@link ApprovalDesk.respond}. */
  respond(approvalId: string, body: RespondBody, actor: Actor): Promise<ApprovalResolved> {
    this.activity.touch()
    return this.#desk.respond(approvalId, body, actor)
  }

  /** The standing acceptances of this session. */
  sessionRules(): SessionRule[] {
    return this.#desk.rules()
  }

  /** See {@link ApprovalDesk.revokeRule}. */
  revokeSessionRule(ruleId: string, actor: Actor): Promise<void> {
    this.activity.touch()
    return this.#desk.revokeRule(ruleId, actor)
  }

  /** See {@link ApprovalDesk.extend}. */
  extend(approvalId: string, ms: number, actor: Actor): Approval {
    this.activity.touch()
    return this.#desk.extend(approvalId, ms, actor)
  }

  /**
   * Attaches a client: session/ready, then, with `from`, what follows that position, then live events. For one without
   * `from` the process starts in the background (a failure is told as session/state); one that comes back costs none.
   */
  attach(sink: ClientSink, from?: ResumeFrom): SessionClient {
    const client = this.#broadcast.attach(sink, { userId: this.userId, sessionId: this.sessionId }, from)
    if (from === undefined) {
      void this.#keeper.ensure().catch((error: Error) => {
        this.#options.log.info({ userId: this.userId, err: error }, 'no codex process for a new client')
      })
    }
    return client
  }

  /** What codex said to the gateway's own handshake; starts the process if need be. Rejects as a request does. */
  async handshake(): Promise<Handshake> {
    const { handshake: reply } = await this.#keeper.ensure()
    return { reply, notices: this.#notices.lines }
  }

  /** Tells the clients that a budget of theirs is nearly, or wholly, used up. */
  tellLimit(limit: UsageLimit): void {
    this.#broadcast.emit('usage/limit', limit)
  }

  /** Hands what is new to the clients at once. */
  flush(): void {
    this.#broadcast.flush()
  }

  detach(client: SessionClient): void {
    this.#broadcast.detach(client)
  }

  /**
   * Sends a client's request to codex: checked and guarded, on a process that is started if need be, with the thread
   * loaded again if need be. Rejects with coded errors only.
   *
   * @param watch sees it go, and codex's own reply
   */
  async request(method: string, params: unknown, actor: Actor, watch?: RequestWatch): Promise<RequestResult> {
    const { params: checked, dropped, isAnswered } = await this.#calls.guard(method, params, actor)
    if (isAnswered) return { payload: await this.#calls.answer(method, checked, actor), dropped }
    if (this.#state.retryAfterMs !== undefined) refuseNewWork(method, this.#state.retryAfterMs)
    const run = async () => this.#calls.run(await this.#keeper.ensure(), method, checked, watch)
    return { payload: await this.activity.request(run), dropped }
  }

  /** Checks a request as {@link request} does, and sends nothing. */
  async check(method: string, params: unknown, actor: Actor): Promise<void> {
    await this.#calls.guard(method, params, actor)
  }

  /**
   * Ends what an earlier gateway left open when it was killed: turns that ran (codex is asked how), approvals that waited.
   * Call before the first client. Never rejects.
   */
  async recover(): Promise<void> {
    for (const end of await recoverTurns(this.#tracker, () => this.#keeper.ensure())) this.#broadcast.emit('event', end)
    await this.#desk.settleLeftovers()
  }

  /** Stops the process, telling the clients why; the next request starts it again. */
  stopProcess(reason: string): Promise<void> {
    return this.#keeper.stop(reason)
  }

  /** Tells the clients that the session is about to end, and when to come back: what runs goes on, nothing new starts. */
  drain(reason: string, retryAfterMs: number): void {
    this.#setState({ state: 'closing', reason, retryAfterMs })
    this.#keeper.drain()
  }

  /** Ends the session: approvals settled, process stopped, clients closed. Call {@link drain} before. */
  async close(code: number, reason: string): Promise<void> {
    await this.#desk.settleAll('shutdown')
    await this.#keeper.close(reason)
    // Requests that ended with the process are answered first.
    await nextLoop()
    this.#broadcast.close(code, reason)
    await this.#closeStores()
  }

  /** Ends a session that has neither process nor clients, without a word to anybody. Never rejects. */
  async retire(): Promise<void> {
    await this.#keeper.close('idle')
    await this.#closeStores()
  }

  /** Holds codex's output back, or lets it go on. */
  holdOutput(isHeld: boolean): void {
    void this.#keeper.current().then((process) => process?.holdOutput(isHeld))
  }

  async #closeStores(): Promise<void> {
    await this.#options.state.close()
    await this.#options.journal.close().catch((error: Error) => {
      this.#options.log.warn({ userId: this.userId, err: error }, 'the journal was not written to its end')
    })
  }

  #onBatchEnd(): void {
    this.activity.touch()
    this.#broadcast.scheduleFlush()
  }

  #onProcessEnd(exit: ProcessExit, reason: string | undefined): void {
    const { expected, ...ended } = exit
    this.#notices.clear()
    for (const end of interruptTurns(this.#tracker)) this.#broadcast.emit('event', end)
    void this.#desk.settleAll(this.state === 'closing' ? 'shutdown' : 'codex')
    if (!expected) this.#options.log.warn({ userId: this.userId, ...ended }, 'codex process ended unexpectedly')
    const crashed = `codex ended (${describeExit(exit)}); the next request starts it again`
    if (!expected) this.#setState({ state: 'crashed', reason: crashed })
    else this.#setState({ state: 'cold', ...(reason === undefined ? {} : { reason }) })
  }

  async #onExpired(approval: Approval, defaultAction: 'decline' | 'cancel'): Promise<void> {
    const process = await this.#keeper.current()
    if (process) await this.#calls.onExpired(process, approval, defaultAction)
  }

  #onUnrecordable(error: Error): void {
    this.#options.log.error({ userId: this.userId, err: error }, 'a decision could not be put on record')
    void this.stopProcess('the audit log cannot be written')
  }

  #setState(now: SessionState): void {
    // Nothing opens a session again that is about to end.
    if (this.state === 'closing' || (this.state === now.state && this.#state.reason === now.reason)) return
    this.#state = now
    this.#broadcast.emit('session/state', now)
  }
}
