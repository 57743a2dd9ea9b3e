import type { JsonObject } from '../json.ts'
import { refusal } from './file-errors.ts'
import { confineRoots, searchFiles } from './file-search.ts'
import { type FileListener, PerListener } from './listener.ts'
import type { TurnStile } from './turn-stile.ts'
import type { WorkspaceRoot } from './walk.ts'

/** Of one connection. */
const MAX_SESSIONS = 16

interface SearchSession {
  roots: string[]
  /** Counts the queries: an answer to an older one is not told. */
  query: number
}

/** codex's fuzzyFileSearch/session*: a search whose query changes, told as notifications. */
export class SearchSessions {
  readonly #root: WorkspaceRoot
  readonly #stile: TurnStile
  readonly #sessions = new PerListener<Map<string, SearchSession>>(
    () => new Map(),
    (sessions) => sessions.clear()
  )

  constructor(root: WorkspaceRoot, stile: TurnStile) {
    this.#root = root
    this.#stile = stile
  }

  /** Rejects with OutsideWorkspace for a root that is not the workspace's. */
  async start(listener: FileListener, sessionId: string, roots: string[]): Promise<JsonObject> {
    const sessions = this.#sessions.of(listener)
    if (!sessions.has(sessionId) && sessions.size >= MAX_SESSIONS) {
      throw refusal(`at most ${MAX_SESSIONS} searches for one connection`)
    }
    await confineRoots(this.#root, roots)
    sessions.set(sessionId, { roots, query: 0 })
    return {}
  }

  update(listener: FileListener, sessionId: string, query: string): JsonObject {
    const session = this.#sessions.of(listener).get(sessionId)
    if (session === undefined) throw refusal(`fuzzy file search session not found: ${sessionId}`)
    const number = ++session.query
    const isLatest = () => session.query === number && this.#sessions.of(listener).get(sessionId) === session
    void this.#stile
      .pass(async () => (isLatest() ? searchFiles(this.#root, query, session.roots) : { files: [] }))
      .catch(() => ({ files: [] }))
      .then(({ files = [] }: JsonObject) => {
        if (!isLatest()) return
        listener.notify('fuzzyFileSearch/sessionUpdated', { sessionId, query, files })
        listener.notify('fuzzyFileSearch/sessionCompleted', { sessionId })
      })
    return {}
  }

  stop(listener: FileListener, sessionId: string): JsonObject {
    this.#sessions.of(listener).delete(sessionId)
    return {}
  }
}
