import type { FileChange } from '../../schemas/approvals.ts'
import { asObject, asText, type JsonValue } from '../json.ts'

/** File-change items whose changes are kept for an approval that may follow; codex has a handful at a time. */
const MAX_ITEMS = 256

/** What file-change items announced; the approval requests that follow do not say it. */
export class AnnouncedChanges {
  readonly #changes = new Map<string, FileChange[]>()

  get(threadId: string, itemId: string): FileChange[] | undefined {
    return this.#changes.get(`${threadId}/${itemId}`)
  }

  set(threadId: string, itemId: string | undefined, changes: JsonValue | undefined): void {
    if (itemId === undefined) return
    this.#changes.set(`${threadId}/${itemId}`, readFileChanges(changes))
    const oldest = this.#changes.keys().next().value
    if (this.#changes.size > MAX_ITEMS && oldest !== undefined) this.#changes.delete(oldest)
  }

  delete(threadId: string, itemId: string | undefined): void {
    if (itemId !== undefined) this.#changes.delete(`${threadId}/${itemId}`)
  }

  clear(): void {
    this.#changes.clear()
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
