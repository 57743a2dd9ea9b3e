import { CodexError, InvalidMessage, NotFound, withDetails } from '../../errors.ts'
import type { Approval } from '../../schemas/approvals.ts'
import { toCodedError } from '../codex/codex-errors.ts'
import type { ApprovalMode, WorkspacePaths } from '../codex/method-guards.ts'
import { checkReply, guardParams, type ReplyMismatch } from '../codex/params.ts'
import type { CodexProcess } from '../codex/process.ts'
import { type ReplyObserver, RpcError } from '../codex/rpc-peer.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'
import { asObject, asText, type JsonObject, nestsDeeperThan } from '../json.ts'
import type { Actor } from './actor.ts'
import { LocalAnswers } from './local-answers.ts'
import type { ThreadTracker } from './thread-tracker.ts'
import { workspacePaths } from './workspace.ts'

/** Methods that codex answers only for a thread that this process has loaded. */
const NEEDS_LOADED_THREAD = new Set([
  'turn/start',
  'turn/steer',
  'turn/interrupt',
  'review/start',
  'thread/compact/start',
  'thread/revert',
  'thread/backgroundTerminals/clean',
  'thread/backgroundTerminals/list',
  'thread/backgroundTerminals/terminate',
  'thread/queue/start'
])
const LOADS_THREAD = new Set(['thread/start', 'thread/resume', 'thread/fork'])

/** codex drops a line that nests more than 128 deep, without an answer, and keeps some of it inside lines of its own. */
const MAX_DEPTH = 64

/** For what is said to codex while an approval ends: its refusal must not wait for long. */
const ASIDE_TIMEOUT_MS = 2_000
/** For the question whether a process may be stopped: who waits for its place must not wait for long. */
const TERMINALS_TIMEOUT_MS = 1_000

/** For somebody who wants to know when a request goes out, and what exactly comes back. */
export interface RequestWatch {
  onSent(): void
  onReply: ReplyObserver
}

export interface CodexCallsOptions {
  tracker: ThreadTracker
  /** On the host, and as codex sees them. */
  directories: UserDirectories
  view: UserDirectories
  approvalMode: ApprovalMode
  timeoutMs: number
  onMismatch(method: string, mismatches: ReplyMismatch[]): void
}

/** The requests of a session's clients to codex: guarded on the way up, loaded threads seen to, replies checked. */
export class CodexCalls {
  readonly #options: CodexCallsOptions
  readonly #paths: WorkspacePaths
  readonly #answers: LocalAnswers

  constructor(options: CodexCallsOptions) {
    const { directories, view, tracker } = options
    this.#options = options
    this.#paths = workspacePaths(directories, view)
    this.#answers = new LocalAnswers(directories, view, (threadId) => tracker.isLoaded(threadId))
  }

  /** What codex may get of a client's params, or the gateway's own answer (see LocalAnswers); see guardParams. */
  async guard(method: string, params: unknown, actor: Omit<Actor, 'actorId'>) {
    refuseDeep(params)
    const { approvalMode: mode } = this.#options
    const { roles, answersToolCalls = false, isNative: lenient = false } = actor
    const guarded = await guardParams({ method, params, roles, mode, answersToolCalls, lenient, ...this.#paths })
    return { ...guarded, params: guarded.params as JsonObject }
  }

  /** The gateway's own answer to guarded params, without a process. */
  answer(method: string, params: JsonObject, { listener }: Actor): Promise<JsonObject> {
    return this.#answers.answer(method, params, listener)
  }

  /**
   * Sends guarded params; loads the thread first where codex wants it loaded. The result also has `threadId` and
   * `turnId` where it is about one. Rejects with coded errors only.
   */
  async run(process: CodexProcess, method: string, params: JsonObject, watch?: RequestWatch): Promise<JsonObject> {
    if (NEEDS_LOADED_THREAD.has(method)) await this.#loadThread(process, asText(params.threadId))
    return this.#forward(process, method, params, watch)
  }

  async #forward(process: CodexProcess, method: string, params: JsonObject, watch?: RequestWatch): Promise<JsonObject> {
    let result: JsonObject
    try {
      const reply = process.request(method, params, this.#options.timeoutMs, watch?.onReply)
      watch?.onSent()
      result = asObject(await reply)
    } catch (error) {
      throw toCodedError(error, method)
    }
    const mismatches = checkReply(method, result, this.#options.approvalMode)
    if (mismatches.length > 0) {
      this.#options.onMismatch(method, mismatches)
      throw withDetails(new CodexError('codex did not take the approval policy of the gateway'), { mismatches })
    }
    await this.#noteThread(process, method, asObject(result.thread))
    const threadId = asText(result.reviewThreadId) ?? asText(params.threadId)
    // Nobody may take the process for idle between this answer and the turn's first notification.
    if (threadId !== undefined) this.#options.tracker.onTurnAccepted(threadId, asObject(result.turn))
    return withIds(result)
  }

  /** A thread that was made is not lost any more, whoever dies, before its maker hears of it. */
  async #noteThread(process: CodexProcess, method: string, thread: JsonObject): Promise<void> {
    const { tracker } = this.#options
    const isLoaded = LOADS_THREAD.has(method)
    if (!isLoaded && method !== 'thread/unarchive') return
    const kept = tracker.onDescribed(thread, isLoaded)
    if (method === 'thread/start') await Promise.all([kept, this.#materialise(process, thread)])
    else if (method === 'thread/fork') await kept
    else kept.catch(() => {})
  }

  /**
   * codex (0.169) writes the file of a new thread with its first turn; until then the thread cannot be loaded again.
   * Asking for its turns makes codex write the file at once, although it answers with an error. (A fork has its file.)
   */
  async #materialise(process: CodexProcess, { id, ephemeral }: JsonObject): Promise<void> {
    if (typeof id !== 'string' || ephemeral === true) return
    const params = { threadId: id, includeTurns: true }
    await process.request('thread/read', params, this.#options.timeoutMs).catch((error) => {
      if (!(error instanceof RpcError)) throw toCodedError(error, 'thread/read')
    })
  }

  /**
   * Nobody answered, and codex will hear this default next. `cancel` stops the turn: for some kinds codex itself takes
   * it for no more than a refusal. Never rejects.
   */
  async onExpired(process: CodexProcess, approval: Approval, defaultAction: 'decline' | 'cancel'): Promise<void> {
    const { threadId, turnId } = approval
    if (threadId === null || turnId === null) return
    const [method, params] =
      defaultAction === 'cancel'
        ? ['turn/interrupt', { threadId, turnId }]
        : ['turn/steer', { threadId, expectedTurnId: turnId, input: [noAnswer(approval)] }]
    await process.request(method, params, ASIDE_TIMEOUT_MS).catch(() => {
      // The turn ended meanwhile: there is nothing to stop, and nobody to be told.
    })
  }

  /**
   * Whether a command that outlives its turn runs in a loaded thread. True also when codex does not say: a process that
   * is too busy to answer is not idle. Never rejects.
   */
  async hasBackgroundTerminals(process: CodexProcess): Promise<boolean> {
    const answers = this.#options.tracker.loadedThreads().map(async (threadId) => {
      try {
        const { data } = asObject(
          await process.request('thread/backgroundTerminals/list', { threadId }, TERMINALS_TIMEOUT_MS)
        )
        return Array.isArray(data) && data.length > 0
      } catch (error) {
        // A refusal: codex has unloaded the thread meanwhile.
        return !(error instanceof RpcError)
      }
    })
    return (await Promise.all(answers)).includes(true)
  }

  async #loadThread(process: CodexProcess, threadId: string | undefined): Promise<void> {
    if (threadId === undefined || this.#options.tracker.isLoaded(threadId)) return
    const { params } = await this.guard('thread/resume', { threadId, excludeTurns: true }, { roles: ['user'] })
    await this.#forward(process, 'thread/resume', params).catch((error) => {
      // codex says the same of the request itself, in the words that fit it.
      if (!(error instanceof NotFound)) throw error
    })
  }
}

/** The result of codex with the ids of its thread and turn, where it is about one, on top. */
function withIds(result: JsonObject): JsonObject {
  const threadId = asText(asObject(result.thread).id)
  const turnId = asText(asObject(result.turn).id)
  return { ...result, ...(threadId === undefined ? {} : { threadId }), ...(turnId === undefined ? {} : { turnId }) }
}

/**
 * Without this a time-out looks like a refusal by the user, and models then look for another way to the same end. Sent
 * before the refusal itself, so that the model reads both at once.
 */
function noAnswer({ command, changes }: Approval) {
  const paths = changes?.map(({ path }) => path).join(', ')
  const subject = command ?? (paths === undefined ? 'your request' : `the change of ${paths}`)
  const text =
    `[Cloud Codex] Nobody answered the approval request for ${subject} in time. This is not a refusal: no one was ` +
    'there to decide. Do not look for a way around it; say what is left to do, so that the user can ask again.'
  return { type: 'text', text, text_elements: [] }
}

/** Throws InvalidMessage for a value that codex could not read. */
export function refuseDeep(value: unknown): void {
  if (nestsDeeperThan(value, MAX_DEPTH)) throw new InvalidMessage(`it nests more than ${MAX_DEPTH} levels deep`)
}
