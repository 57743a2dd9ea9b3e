import { setImmediate as nextLoop } from 'node:timers/promises'
import { Forbidden, InvalidMessage, NotFound, PoolFull, ProcessExited, ShuttingDown } from '../../errors.ts'
import type { Approval, ApprovalResolved, RespondBody, SessionRule } from '../../schemas/approvals.ts'
import type { Identity } from '../../schemas/identity.ts'
import type { ApprovalEvent, SessionStateName } from '../../schemas/server-messages.ts'
import { ApprovalLedger } from '../approvals/ledger.ts'
import type { PolicyVerdict, Settlement } from '../approvals/ledger-entry.ts'
import type { ApprovalMode } from '../codex/method-guards.ts'
import { roleAtLeast } from '../codex/methods.ts'
import type { ProcessPool } from '../codex/pool.ts'
import { type CodexProcess, type ProcessExit, ProcessStates } from '../codex/process.ts'
import type { ServerCall } from '../codex/rpc-peer.ts'
import { type Question, readServerRequest } from '../codex/server-requests.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'
import type { Journal } from '../journal/journal.ts'
import { type JsonObject, nestsDeeperThan } from '../json.ts'
import { Broadcast } from './broadcast.ts'
import type { ClientSink, JournalPosition, SessionClient } from './client.ts'
import { CodexCalls } from './codex-calls.ts'
import { ThreadTracker } from './thread-tracker.ts'
import { workspacePaths } from './workspace.ts'

export interface SessionLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface SessionOptions {
  userId: string
  sessionId: string
  pool: ProcessPool
  directories: UserDirectories
  journal: Journal
  approvalMode: ApprovalMode
  requestTimeoutMs: number
  log: SessionLog
  decide(question: Question, session: Session): Promise<PolicyVerdict>
  record(settlement: Settlement, session: Session): Promise<void>
  /** Hears what the clients hear of approvals. Must not throw. */
  onApproval(event: ApprovalEvent, session: Session): void
}

/** Who acts on a session: a user, or a webhook whose receiver showed a decision token. */
export interface Actor extends Pick<Identity, 'actorId' | 'roles'> {
  kind?: 'user' | 'webhook'
  /** Stays attached and hears approvals, so it may bring tools (dynamicTools): their calls are put before it. */
  answersToolCalls?: boolean
}

export interface RequestResult {
  payload: JsonObject
  /** Known fields that codex did not get (see guardParams). */
  dropped: string[]
}

/** One user's live session: at most one codex process, any number of clients, one journal, one approval ledger. */
export class Session {
  readonly userId: string
  readonly sessionId: string
  readonly directories: UserDirectories
  readonly view: UserDirectories
  readonly #options: SessionOptions
  readonly #ledger: ApprovalLedger
  readonly #tracker: ThreadTracker
  readonly #broadcast: Broadcast
  readonly #calls: CodexCalls
  #state: SessionStateName = 'cold'
  readonly #closing = new AbortController()
  #process: Promise<CodexProcess> | undefined
  /** The end of the process before: two at once would share a codex home. */
  #stopped: Promise<void> = Promise.resolve()
  #stopReason: string | undefined
  #lastActiveAtMs = Date.now()
  #inFlight = 0

  constructor(options: SessionOptions) {
    this.#options = options
    this.userId = options.userId
    this.sessionId = options.sessionId
    this.directories = options.directories
    this.view = options.pool.launcher.view(options.directories)
    this.#broadcast = new Broadcast(options.journal, () => ({
      threads: this.#tracker.summaries(),
      pendingApprovals: this.pendingApprovals()
    }))
    this.#tracker = new ThreadTracker((requestId) => this.#ledger.onResolvedByCodex(requestId))
    this.#calls = new CodexCalls({
      tracker: this.#tracker,
      paths: workspacePaths(this.directories, this.view),
      approvalMode: options.approvalMode,
      timeoutMs: options.requestTimeoutMs,
      onMismatch: (method, mismatches) => {
        const fields = { userId: this.userId, method, mismatches }
        options.log.error(fields, 'codex runs a thread under another policy than the gateway’s')
      }
    })
    this.#ledger = new ApprovalLedger({
      decide: (question) => options.decide(question, this),
      record: (settlement) => options.record(settlement, this),
      emit: (event) => {
        this.#broadcast.emit(event.type, event.payload)
        options.onApproval(event, this)
      },
      onExpired: (approval, defaultAction) => this.#onExpired(approval, defaultAction),
      onUnrecordable: (error) => this.#onUnrecordable(error)
    })
  }

  get state(): SessionStateName {
    return this.#state
  }

  get clientCount(): number {
    return this.#broadcast.clientCount
  }

  get lastActiveAtMs(): number {
    return this.#lastActiveAtMs
  }

  get hasProcess(): boolean {
    return this.#process !== undefined
  }

  /** Something waits or runs: a turn, an approval, a request. */
  get isBusy(): boolean {
    return this.#inFlight > 0 || this.#tracker.runningTurns > 0 || this.#ledger.pendingCount > 0
  }

  pendingApprovals(): Approval[] {
    return this.#ledger.pending()
  }

  /** See {@link ApprovalLedger.respond}; Forbidden for a role that may only look. */
  async respond(approvalId: string, body: RespondBody, actor: Actor): Promise<ApprovalResolved> {
    this.#admit(actor)
    refuseDeep(body)
    return this.#ledger.respond(approvalId, body, { kind: actor.kind ?? 'user', id: actor.actorId })
  }

  /** The standing acceptances of this session. */
  sessionRules(): SessionRule[] {
    return this.#ledger.rules.list(Date.now())
  }

  /** Ends a standing acceptance. Forbidden for a role that may only look, NotFound when there is none. */
  revokeSessionRule(ruleId: string, actor: Actor): void {
    this.#admit(actor)
    if (!this.#ledger.rules.revoke(ruleId)) throw new NotFound('The session rule was')
  }

  /** See {@link ApprovalLedger.extend}; Forbidden for a role that may only look. */
  extend(approvalId: string, ms: number, actor: Actor): Approval {
    this.#admit(actor)
    return this.#ledger.extend(approvalId, ms)
  }

  /**
   * Attaches a client: session/ready first, then, with `from`, everything after that position, then live events. The
   * process starts in the background; a start that fails is told as session/state.
   */
  attach(sink: ClientSink, from?: JournalPosition): SessionClient {
    const client = this.#broadcast.attach(sink, { userId: this.userId, sessionId: this.sessionId }, from)
    this.#touch()
    void this.#ensureProcess().catch((error: Error) => {
      this.#options.log.info({ userId: this.userId, err: error }, 'no codex process for a new client')
    })
    return client
  }

  detach(client: SessionClient): void {
    this.#broadcast.detach(client)
  }

  /**
   * Sends a client's request to codex: checked and guarded, on a process that is started if need be, with the thread
   * loaded again if need be. Rejects with coded errors only.
   */
  async request(method: string, params: unknown, { roles, answersToolCalls }: Actor): Promise<RequestResult> {
    this.#touch()
    refuseDeep(params)
    const { params: checked, dropped } = await this.#calls.guard(method, params, roles, answersToolCalls)
    this.#inFlight++
    try {
      return { payload: await this.#calls.run(await this.#ensureProcess(), method, checked), dropped }
    } finally {
      this.#inFlight--
      this.#touch()
    }
  }

  /** Stops the process, telling the clients why; the next request starts it again. */
  async stopProcess(reason: string): Promise<void> {
    const running = this.#process
    const process = await running?.catch(() => undefined)
    if (process && this.#process === running) {
      this.#stopReason = reason
      // From here on a request waits for the end and a new start, instead of failing with this process.
      this.#process = undefined
      this.#stopped = process.stop()
    }
    await this.#stopped
  }

  /** Ends the session: approvals settled, process stopped, clients closed. */
  async close(code: number, reason: string): Promise<void> {
    this.#setState('closing', reason)
    await this.#ledger.settleAll({ kind: 'shutdown' })
    // A start that hangs would else hold the shutdown up until its own timeout.
    this.#closing.abort()
    await this.stopProcess(reason)
    // Requests that ended with the process are answered first.
    await nextLoop()
    this.#broadcast.close(code, reason)
  }

  #ensureProcess(): Promise<CodexProcess> {
    if (this.#state === 'closing') return Promise.reject(new ShuttingDown())
    if (this.#process) return this.#process
    const starting: Promise<CodexProcess> = this.#startProcess(() => {
      if (this.#process === starting) this.#process = undefined
    })
    this.#process = starting
    return starting
  }

  async #startProcess(forget: () => void): Promise<CodexProcess> {
    const { pool, log } = this.#options
    const attempt = { isReady: false }
    await this.#stopped
    try {
      const handlers = {
        onNotification: (method: string, line: Buffer) => this.#onNotification(method, line),
        onRequest: (call: ServerCall) => this.#onServerRequest(call),
        onBatchEnd: () => this.#onBatchEnd(),
        onGarbage: (reason: string) => log.warn({ userId: this.userId, reason }, 'unreadable line from codex'),
        onExit: (exit: ProcessExit) => {
          forget()
          // A process that never got ready is told by the start that failed.
          if (attempt.isReady) this.#onExit(exit)
        }
      }
      const process = await pool.start(this.userId, handlers, this.#closing.signal)
      // It may have died between its last answer and now; nobody was told.
      if (process.state === ProcessStates.EXITED) throw new ProcessExited()
      attempt.isReady = true
      this.#setState('ready')
      return process
    } catch (error) {
      forget()
      if (!(error instanceof PoolFull)) this.#setState('failed', (error as Error).message)
      throw error
    }
  }

  #onNotification(method: string, line: Buffer): void {
    this.#tracker.onNotification(method, line)
    this.#broadcast.append('event', line)
  }

  #onBatchEnd(): void {
    this.#touch()
    this.#broadcast.scheduleFlush()
  }

  #onServerRequest(call: ServerCall): void {
    const request = readServerRequest(call.method, call.params, (threadId, itemId) =>
      this.#tracker.fileChanges(threadId, itemId)
    )
    if (request.type === 'question') void this.#ledger.open(call, request.question)
    else if (request.type === 'settled') call.respond(request.result)
    else call.respondError(request.error)
  }

  #onExit(exit: ProcessExit): void {
    this.#tracker.onProcessExit()
    const { code, signal, expected } = exit
    if (!expected) this.#options.log.warn({ userId: this.userId, code, signal }, 'codex process ended unexpectedly')
    void this.#ledger.settleAll({ kind: this.#state === 'closing' ? 'shutdown' : 'codex' })
    if (this.#state === 'closing') return
    if (expected) this.#setState('cold', this.#stopReason)
    else this.#setState('crashed', `codex ended (${signal ?? `code ${code}`}); the next request starts it again`)
    this.#stopReason = undefined
  }

  async #onExpired(approval: Approval, defaultAction: 'decline' | 'cancel'): Promise<void> {
    const process = await this.#process?.catch(() => undefined)
    if (process) await this.#calls.onExpired(process, approval, defaultAction)
  }

  #onUnrecordable(error: Error): void {
    this.#options.log.error({ userId: this.userId, err: error }, 'a decision could not be put on record')
    void this.stopProcess('the audit log cannot be written')
  }

  #setState(state: SessionStateName, reason?: string): void {
    // Nothing opens a session again that is about to end.
    if (this.#state === state || this.#state === 'closing') return
    this.#state = state
    this.#broadcast.emit('session/state', { state, ...(reason === undefined ? {} : { reason }) })
  }

  #admit({ roles }: Actor): void {
    this.#touch()
    if (!roleAtLeast(roles, 'user')) throw new Forbidden('A viewer may not decide')
  }

  #touch(): void {
    this.#lastActiveAtMs = Date.now()
  }
}

/** codex drops a line that nests more than 128 deep, without an answer, and keeps some of it inside lines of its own. */
const MAX_DEPTH = 64

function refuseDeep(value: unknown): void {
  if (nestsDeeperThan(value, MAX_DEPTH)) throw new InvalidMessage(`it nests more than ${MAX_DEPTH} levels deep`)
}
