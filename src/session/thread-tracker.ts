import type { FileChange } from '../../schemas/approvals.ts'
import type { ThreadSummary } from '../../schemas/server-messages.ts'
import type { RpcId } from '../codex/classify.ts'
import { asObject, asText, isJsonObject, type JsonObject, type JsonValue } from '../json.ts'
import { AnnouncedChanges } from './announced-changes.ts'
import type { InterruptedTurn, RunningTurn } from './interrupted-turn.ts'
import { MAX_THREADS, type StoredThread, type ThreadStore } from './session-state.ts'

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
/** Whether the tracker wants to see notifications of this method; all others need not be looked into. */
export function readsMethod(method: string): boolean {
  return STATE_METHODS.has(method)
}

const FILE_CHANGE = Buffer.from('"type":"fileChange"')
const USER_MESSAGE = Buffer.from('"type":"userMessage"')
const MAX_PREVIEW_CHARS = 200
/** A message with pictures in it is not parsed for a title. */
const MAX_MESSAGE_LINE_BYTES = 64 * 1024

interface TrackedThread {
  name: string | null
  preview: string | null
  status: string
  /** Ends with its process: it is not worth keeping. */
  isEphemeral: boolean
  turn: RunningTurn | undefined
  lastTurn: { turnId: string; status: string } | undefined
}

/**
 * What the gateway knows of a user's threads from codex's notifications: which are loaded, which turns run and how the
 * last one ended, and which files an announced change touches (its approval request does not say). Reads only the few
 * lines that matter.
 */
export class ThreadTracker {
  readonly #threads = new Map<string, TrackedThread>()
  readonly #loaded = new Set<string>()
  readonly #fileChanges = new AnnouncedChanges()
  readonly #onResolved: (requestId: RpcId) => void
  readonly #store: ThreadStore

  /**
   * @param onResolved codex no longer waits for the answer to this server request
   * @param known what an earlier gateway kept, oldest first; follow with {@link onProcessExit}, which ends its turns
   */
  constructor(onResolved: (requestId: RpcId) => void, store: ThreadStore, known: readonly StoredThread[] = []) {
    this.#onResolved = onResolved
    this.#store = store
    for (const { threadId, name, preview, turn, lastTurn } of known) {
      this.#threads.set(threadId, { name, preview, status: 'notLoaded', isEphemeral: false, turn, lastTurn })
    }
  }

  /** Turns that run now. */
  get runningTurns(): number {
    let running = 0
    for (const thread of this.#threads.values()) if (thread.turn !== undefined) running++
    return running
  }

  isLoaded(threadId: string): boolean {
    return this.#loaded.has(threadId)
  }

  /** The ids of the threads that the process has loaded. */
  loadedThreads(): string[] {
    return [...this.#loaded]
  }

  /** Takes a thread as codex describes it. Resolves when what lasts of it is durable; rejects when it cannot be now. */
  async onDescribed(description: JsonObject, isLoaded: boolean): Promise<void> {
    const { id, name, preview, ephemeral, status } = description
    const threadId = asText(id)
    if (threadId === undefined) return
    if (isLoaded) this.#loaded.add(threadId)
    const thread = this.#thread(threadId)
    thread.name = asText(name) ?? thread.name
    thread.preview = previewOf(asText(preview) ?? '') ?? thread.preview
    thread.status = asText(asObject(status).type) ?? thread.status
    thread.isEphemeral = ephemeral === true
    await this.#save(threadId)
  }

  /** The changes that the file-change item announced; undefined when it did not. */
  fileChanges(threadId: string, itemId: string): FileChange[] | undefined {
    return this.#fileChanges.get(threadId, itemId)
  }

  summaries(): ThreadSummary[] {
    return [...this.#threads].map(([threadId, { name, preview, status, turn, lastTurn }]) => ({
      threadId,
      title: name ?? preview,
      status,
      ...(turn === undefined ? {} : { turnId: turn.turnId }),
      ...(lastTurn === undefined ? {} : { lastTurn })
    }))
  }

  /** Takes a turn that codex has accepted: it runs, although `turn/started` may still be under way. */
  onTurnAccepted(threadId: string, turn: JsonObject): void {
    const known = this.#thread(threadId)
    // The answer may be read after the turn's end, too.
    const isNews = known.turn === undefined && known.lastTurn?.turnId !== turn.id
    if (isNews && turn.status === 'inProgress') this.#onTurnStarted(threadId, turn)
  }

  /** Takes the end of a turn, as codex describes it. */
  onTurnCompleted(threadId: string, { id, status: ended }: JsonObject): void {
    const [turnId, status] = [asText(id), asText(ended)]
    const { turn, lastTurn } = this.#thread(threadId)
    const isRunning = turn !== undefined && turn.turnId === turnId
    this.#change(threadId, {
      turn: isRunning ? undefined : turn,
      lastTurn: turnId === undefined || status === undefined ? lastTurn : { turnId, status }
    })
  }

  /** The process is gone: nothing is loaded and nothing runs. Returns the turns that this has interrupted. */
  onProcessExit(): InterruptedTurn[] {
    this.#loaded.clear()
    this.#fileChanges.clear()
    const interrupted: InterruptedTurn[] = []
    for (const [threadId, thread] of this.#threads) {
      const { turn, isEphemeral } = thread
      thread.status = 'notLoaded'
      if (turn !== undefined) {
        interrupted.push({ threadId, ...turn })
        thread.turn = undefined
        thread.lastTurn = { turnId: turn.turnId, status: 'interrupted' }
        this.#save(threadId).catch(ignore)
      }
      if (isEphemeral) this.#threads.delete(threadId)
    }
    return interrupted
  }

  onNotification(method: string, line: Buffer): void {
    if (!STATE_METHODS.has(method)) return
    if (method.startsWith('item/') && method !== 'item/fileChange/patchUpdated') {
      const mayBeMessage = method === 'item/started' && line.length <= MAX_MESSAGE_LINE_BYTES
      if (!line.includes(FILE_CHANGE) && !(mayBeMessage && line.includes(USER_MESSAGE))) return
    }
    const { params } = JSON.parse(line.toString('utf8')) as { params?: JsonValue }
    if (isJsonObject(params)) this.#apply(method, params)
  }

  #apply(method: string, params: JsonObject): void {
    const threadId = asText(params.threadId)
    switch (method) {
      case 'thread/started':
        this.onDescribed(asObject(params.thread), true).catch(ignore)
        break
      case 'thread/status/changed':
        if (threadId !== undefined) this.#onStatus(threadId, asText(asObject(params.status).type) ?? 'unknown')
        break
      case 'thread/name/updated':
        if (threadId !== undefined) this.#change(threadId, { name: asText(params.threadName) ?? null })
        break
      case 'thread/closed':
        if (threadId !== undefined) this.#onStatus(threadId, 'notLoaded')
        break
      case 'thread/archived':
      case 'thread/deleted':
        if (threadId !== undefined) this.#forget(threadId)
        break
      case 'turn/started':
        if (threadId !== undefined) this.#onTurnStarted(threadId, asObject(params.turn))
        break
      case 'turn/completed':
        if (threadId !== undefined) this.onTurnCompleted(threadId, asObject(params.turn))
        break
      case 'serverRequest/resolved':
        if (typeof params.requestId === 'string' || typeof params.requestId === 'number') {
          this.#onResolved(params.requestId)
        }
        break
      default:
        if (threadId !== undefined) this.#onItem(method, threadId, params)
    }
  }

  #onStatus(threadId: string, status: string): void {
    const thread = this.#thread(threadId)
    thread.status = status
    if (status !== 'notLoaded') {
      // A thread that is reverted is unloaded and loaded again, and says no more of it than this.
      this.#loaded.add(threadId)
      return
    }
    this.#loaded.delete(threadId)
    if (thread.turn !== undefined) this.#change(threadId, { turn: undefined })
  }

  #onTurnStarted(threadId: string, turn: JsonObject): void {
    const turnId = asText(turn.id)
    if (turnId === undefined) return
    const startedAt = typeof turn.startedAt === 'number' ? turn.startedAt : null
    const rootTurnId = asText(turn.rootTurnId) ?? null
    this.#change(threadId, { turn: { turnId, rootTurnId, startedAt, startedAtMs: Date.now() } })
  }

  #onItem(method: string, threadId: string, params: JsonObject): void {
    const item = method === 'item/fileChange/patchUpdated' ? params : asObject(params.item)
    if (item.type === 'userMessage') this.#onUserMessage(threadId, item)
    else if (method === 'item/completed') this.#fileChanges.delete(threadId, itemIdOf(item))
    else this.#fileChanges.set(threadId, itemIdOf(item), item.changes)
  }

  /** codex tells the preview only of threads that it loads: the first message of a new one is its preview. */
  #onUserMessage(threadId: string, { content }: JsonObject): void {
    if (this.#thread(threadId).preview !== null || !Array.isArray(content)) return
    const texts = content.flatMap((part) => asText(asObject(part).text) ?? [])
    this.#change(threadId, { preview: previewOf(texts.join('')) })
  }

  #change(threadId: string, change: Partial<TrackedThread>): void {
    Object.assign(this.#thread(threadId), change)
    this.#save(threadId).catch(ignore)
  }

  async #save(threadId: string): Promise<void> {
    const { name, preview, isEphemeral, turn, lastTurn } = this.#thread(threadId)
    if (isEphemeral) return
    const ends = { ...(turn === undefined ? {} : { turn }), ...(lastTurn === undefined ? {} : { lastTurn }) }
    await this.#store.saveThread(threadId, { threadId, name, preview, ...ends })
  }

  #thread(threadId: string): TrackedThread {
    const known = this.#threads.get(threadId)
    if (known) return known
    const thread: TrackedThread = {
      name: null,
      preview: null,
      status: 'idle',
      isEphemeral: false,
      turn: undefined,
      lastTurn: undefined
    }
    this.#threads.set(threadId, thread)
    if (this.#threads.size > MAX_THREADS) this.#forgetOldestBut(threadId)
    return thread
  }

  #forgetOldestBut(newest: string): void {
    for (const [threadId, { turn }] of this.#threads) {
      if (threadId === newest || turn !== undefined || this.#loaded.has(threadId)) continue
      this.#forget(threadId)
      return
    }
  }

  #forget(threadId: string): void {
    this.#threads.delete(threadId)
    this.#loaded.delete(threadId)
    this.#store.saveThread(threadId, undefined).catch(ignore)
  }
}

function itemIdOf({ id, itemId }: JsonObject): string | undefined {
  return asText(id) ?? asText(itemId)
}

/** For what is saved aside: whoever saves tries again by itself. */
function ignore(): void {}

/** null where there is no text to make a title of. */
function previewOf(text: string): string | null {
  // Half of a surrogate pair is no text.
  const preview = text.slice(0, MAX_PREVIEW_CHARS).replace(/[\ud800-\udbff]$/, '')
  return preview.trim() === '' ? null : preview
}
