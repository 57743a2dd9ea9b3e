import type { FileChange } from '../../schemas/approvals.ts'
import type { ThreadSummary } from '../../schemas/server-messages.ts'
import type { RpcId } from '../codex/classify.ts'
import { asObject, asText, isJsonObject, type JsonObject, type JsonValue } from '../json.ts'

/** The notifications that the gateway reads; all others pass through as bytes. */
const STATE_METHODS = new Set([
  'thread/started',
  'thread/status/changed',
  'thread/name/updated',
  'thread/closed',
  'thread/archived',
  'thread/deleted',
  'turn/started',
  'turn/completed',
  'item/started',
  'item/completed',
  'item/fileChange/patchUpdated',
  'serverRequest/resolved'
])
const FILE_CHANGE = Buffer.from('"type":"fileChange"')
/** File-change items whose changes are kept for an approval that may follow; codex has a handful at a time. */
const MAX_FILE_CHANGE_ITEMS = 256

interface TrackedThread {
  title: string | null
  status: string
  turnId: string | undefined
}

/**
 * What the gateway knows of a user's threads from codex's notifications: which are loaded, which turns run, and which
 * files an announced change touches (its approval request does not say). Reads only the few lines that matter.
 */
export class ThreadTracker {
  readonly #threads = new Map<string, TrackedThread>()
  readonly #loaded = new Set<string>()
  readonly #fileChanges = new Map<string, FileChange[]>()
  readonly #onResolved: (requestId: RpcId) => void

  /** @param onResolved codex no longer waits for the answer to this server request */
  constructor(onResolved: (requestId: RpcId) => void) {
    this.#onResolved = onResolved
  }

  /** Turns that run now. */
  get runningTurns(): number {
    let running = 0
    for (const thread of this.#threads.values()) if (thread.turnId !== undefined) running++
    return running
  }

  isLoaded(threadId: string): boolean {
    return this.#loaded.has(threadId)
  }

  markLoaded(threadId: string): void {
    this.#loaded.add(threadId)
  }

  /** The changes that the file-change item announced; undefined when it did not. */
  fileChanges(threadId: string, itemId: string): FileChange[] | undefined {
    return this.#fileChanges.get(`${threadId}/${itemId}`)
  }

  summaries(): ThreadSummary[] {
    return [...this.#threads].map(([threadId, { title, status, turnId }]) => ({
      threadId,
      title,
      status,
      ...(turnId === undefined ? {} : { turnId })
    }))
  }

  /** The process is gone: nothing is loaded and nothing runs. */
  onProcessExit(): void {
    this.#loaded.clear()
    this.#fileChanges.clear()
    for (const thread of this.#threads.values()) {
      thread.status = 'notLoaded'
      thread.turnId = undefined
    }
  }

  onNotification(method: string, line: Buffer): void {
    if (!STATE_METHODS.has(method)) return
    if (method.startsWith('item/') && !line.includes(FILE_CHANGE) && method !== 'item/fileChange/patchUpdated') return
    const { params } = JSON.parse(line.toString('utf8')) as { params?: JsonValue }
    if (isJsonObject(params)) this.#apply(method, params)
  }

  #apply(method: string, params: JsonObject): void {
    const threadId = asText(params.threadId)
    switch (method) {
      case 'thread/started': {
        const thread = asObject(params.thread)
        const id = asText(thread.id)
        if (id === undefined) break
        this.#loaded.add(id)
        this.#thread(id).title = asText(thread.name) ?? this.#thread(id).title
        break
      }
      case 'thread/status/changed':
        if (threadId !== undefined) this.#onStatus(threadId, asText(asObject(params.status).type) ?? 'unknown')
        break
      case 'thread/name/updated':
        if (threadId !== undefined) this.#thread(threadId).title = asText(params.threadName) ?? null
        break
      case 'thread/closed':
        if (threadId !== undefined) this.#onStatus(threadId, 'notLoaded')
        break
      case 'thread/archived':
      case 'thread/deleted':
        if (threadId !== undefined) this.#forget(threadId)
        break
      case 'turn/started':
        if (threadId !== undefined) this.#thread(threadId).turnId = asText(asObject(params.turn).id)
        break
      case 'turn/completed':
        if (threadId !== undefined) this.#onTurnCompleted(threadId, asText(asObject(params.turn).id))
        break
      case 'serverRequest/resolved':
        if (typeof params.requestId === 'string' || typeof params.requestId === 'number') {
          this.#onResolved(params.requestId)
        }
        break
      default:
        if (threadId !== undefined) this.#onFileChangeItem(method, threadId, params)
    }
  }

  #onStatus(threadId: string, status: string): void {
    const thread = this.#thread(threadId)
    thread.status = status
    if (status !== 'notLoaded') return
    thread.turnId = undefined
    this.#loaded.delete(threadId)
  }

  #onTurnCompleted(threadId: string, turnId: string | undefined): void {
    const thread = this.#thread(threadId)
    if (thread.turnId === turnId) thread.turnId = undefined
  }

  #onFileChangeItem(method: string, threadId: string, params: JsonObject): void {
    const item = method === 'item/fileChange/patchUpdated' ? params : asObject(params.item)
    const itemId = asText(item.id) ?? asText(params.itemId)
    if (itemId === undefined) return
    const key = `${threadId}/${itemId}`
    if (method === 'item/completed') {
      this.#fileChanges.delete(key)
      return
    }
    this.#fileChanges.set(key, readFileChanges(item.changes))
    const oldest = this.#fileChanges.keys().next().value
    if (this.#fileChanges.size > MAX_FILE_CHANGE_ITEMS && oldest !== undefined) this.#fileChanges.delete(oldest)
  }

  #thread(threadId: string): TrackedThread {
    const known = this.#threads.get(threadId)
    if (known) return known
    const thread: TrackedThread = { title: null, status: 'idle', turnId: undefined }
    this.#threads.set(threadId, thread)
    return thread
  }

  #forget(threadId: string): void {
    this.#threads.delete(threadId)
    this.#loaded.delete(threadId)
  }
}

/** codex's `changes[] {path, kind:{type, move_path?}, diff}` in our shape. Anything unreadable becomes a change that no policy accepts. */
export function readFileChanges(changes: JsonValue | undefined): FileChange[] {
  if (!Array.isArray(changes)) return []
  return changes.map((change) => {
    const { path, kind, diff } = asObject(change)
    const type = asText(asObject(kind).type)
    const movePath = asText(asObject(kind).move_path)
    return {
      path: asText(path) ?? '',
      kind: type === 'add' || type === 'delete' ? type : 'update',
      ...(movePath === undefined ? {} : { movePath }),
      diff: asText(diff) ?? ''
    }
  })
}
