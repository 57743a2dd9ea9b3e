import type { Approval } from '../../schemas/approvals.ts'
import { asText, type JsonObject, type JsonValue } from '../json.ts'
import type { Actor } from '../session/actor.ts'
import type { Session } from '../session/session.ts'
import { readAnswer } from './native-answers.ts'
import { frameOf } from './native-frames.ts'

/** Fields of a command's approval that codex shows only to clients with `experimentalApi`. */
const EXPERIMENTAL_FIELD = 'additionalPermissions'
/** Answers after which the approval is over; after any other failure it waits on. */
const OVER = new Set(['CC_APPROVAL_RESOLVED', 'CC_APPROVAL_NOT_FOUND', 'CC_FORBIDDEN', 'CC_INVALID_DECISION'])
const ASK_AGAIN_MS = 1_000

export interface ServerRequestsOptions {
  session: Session
  isExperimental: boolean
  /** Sends frames, not in answer to anything. */
  send(frames: readonly Buffer[]): void
}

/**
 * codex's own requests as one native client sees them: those of the approvals that wait, under codex's ids. What the
 * policy decides never gets here, and no answer gets further than the gateway.
 */
export class ServerRequests {
  readonly #options: ServerRequestsOptions
  /** By the JSON text of codex's id. */
  readonly #asked = new Map<string, Approval>()
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(options: ServerRequestsOptions) {
    this.#options = options
  }

  /** The request behind an approval, as a frame; none when it does not wait any more. */
  ask(approval: Approval): Buffer[] {
    const call = this.#options.session.pendingCall(approval.approvalId)
    if (call === undefined) return []
    const { id, method, params } = call
    this.#asked.set(JSON.stringify(id), approval)
    return [frameOf(Buffer.from(JSON.stringify({ method, id, params: this.#visible(params) })))]
  }

  /** As {@link ask}, unless the client was asked when it resumed the thread. */
  askOnce(approval: Approval): Buffer[] {
    const isAsked = [...this.#asked.values()].some(({ approvalId }) => approvalId === approval.approvalId)
    return isAsked ? [] : this.ask(approval)
  }

  /** Asks for all that waits in a thread, as codex does when it is resumed. */
  askAll(threadId: string): Buffer[] {
    const pending = this.#options.session.pendingApprovals()
    return pending.filter((approval) => approval.threadId === threadId).flatMap((approval) => this.ask(approval))
  }

  /** codex says that a request is over. Returns whether this client had been asked. */
  onResolvedByCodex({ requestId }: JsonObject): boolean {
    return this.#asked.delete(JSON.stringify(requestId))
  }

  /** An approval has ended. Where codex does not say so any more, the client is told in its name. */
  onResolved({ approvalId, outcome }: JsonObject, isWanted: boolean): Buffer[] {
    const found = [...this.#asked].find(([, approval]) => approval.approvalId === approvalId)
    if (found === undefined || outcome !== 'orphaned') return []
    const [id, { threadId }] = found
    this.#asked.delete(id)
    if (!isWanted) return []
    const head = `{"method":"serverRequest/resolved","params":{"threadId":${JSON.stringify(threadId)},"requestId":${id}}`
    return [frameOf(Buffer.from(`${head},"emittedAtMs":${Date.now()}}`))]
  }

  /** The client's answer to a request. One that was not asked, or comes too late, changes nothing. Never rejects. */
  async answer(id: string, result: JsonValue | undefined, actor: Actor): Promise<void> {
    const approval = this.#asked.get(id)
    if (approval === undefined) return
    try {
      await this.#options.session.respond(approval.approvalId, readAnswer(approval, result), actor)
    } catch (error) {
      const code = asText((error as { code?: JsonValue }).code) ?? ''
      if (!OVER.has(code)) this.#askAgain(approval)
    }
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#asked.clear()
  }

  /** The decision could not be put on record: it did not count, and the client does not know. */
  #askAgain(approval: Approval): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#options.send(this.ask(approval))
    }, ASK_AGAIN_MS)
    this.#timers.add(timer)
  }

  #visible(params: JsonObject): JsonObject {
    if (this.#options.isExperimental || !(EXPERIMENTAL_FIELD in params)) return params
    const { [EXPERIMENTAL_FIELD]: _hidden, ...visible } = params
    return visible
  }
}
