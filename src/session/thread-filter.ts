import { readHead } from '../journal/message-head.ts'
import { asObject, asText, type JsonObject, type JsonValue } from '../json.ts'

const PARAMS = ',"params":{'
const THREAD_FIRST = Buffer.from('"threadId":"')

/**
 * Lets through what concerns one thread: its events and approvals, and the session's own state. Pictures of the whole
 * session (session/ready, session/snapshot) are cut down to it.
 */
export class ThreadFilter {
  readonly #threadId: string
  readonly #idBytes: Buffer
  /** Approvals of other threads that wait. What ends one names only the approval; of one unknown it is let through. */
  readonly #foreignApprovals = new Set<string>()

  constructor(threadId: string) {
    this.#threadId = threadId
    this.#idBytes = Buffer.from(JSON.stringify(threadId))
  }

  /** The message as a reader of this thread gets it; undefined when it is none of theirs. */
  pass(message: Buffer): Buffer | undefined {
    const { type } = readHead(message)
    switch (type) {
      case 'event':
        return this.#isOwnEvent(message) ? message : undefined
      case 'approval/request':
        return this.#isOwnRequest(readPayload(message)) ? message : undefined
      case 'approval/reminder':
      case 'approval/resolved':
        return this.#isForeign(type, readPayload(message)) ? undefined : message
      case 'session/ready':
      case 'session/snapshot':
        return this.#narrow(type, readPayload(message))
      default:
        return message
    }
  }

  #isOwnEvent(message: Buffer): boolean {
    // Most events say first whose they are.
    const at = message.indexOf(PARAMS) + PARAMS.length
    if (hasAt(message, THREAD_FIRST, at)) return hasAt(message, this.#idBytes, at + THREAD_FIRST.length - 1)
    if (!message.includes(this.#idBytes)) return false
    const params = asObject(readPayload(message).params)
    return (asText(params.threadId) ?? asText(asObject(params.thread).id)) === this.#threadId
  }

  #isOwnRequest({ approvalId, threadId }: JsonObject): boolean {
    // An approval of no thread is the session's.
    if (threadId === this.#threadId || threadId === null) return true
    this.#foreignApprovals.add(asText(approvalId) ?? '')
    return false
  }

  #isForeign(type: string, { approvalId }: JsonObject): boolean {
    const id = asText(approvalId) ?? ''
    return type === 'approval/resolved' ? this.#foreignApprovals.delete(id) : this.#foreignApprovals.has(id)
  }

  #narrow(type: string, payload: JsonObject): Buffer {
    const narrowed = { ...payload }
    if (Array.isArray(payload.pendingApprovals)) {
      narrowed.pendingApprovals = payload.pendingApprovals.filter((approval) => this.#isOwnRequest(asObject(approval)))
    }
    if (Array.isArray(payload.threads)) {
      narrowed.threads = payload.threads.filter((thread) => asObject(thread).threadId === this.#threadId)
    }
    return Buffer.from(JSON.stringify({ type, payload: narrowed }))
  }
}

function hasAt(message: Buffer, part: Buffer, at: number): boolean {
  const end = at + part.length
  return end <= message.length && message.compare(part, 0, part.length, at, end) === 0
}

function readPayload(message: Buffer): JsonObject {
  return asObject((JSON.parse(message.toString('utf8')) as { payload?: JsonValue }).payload)
}
