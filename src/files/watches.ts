import type { FSWatcher } from 'node:fs'
import { isAbsolute, join, normalize } from 'node:path'
import type { JsonObject } from '../json.ts'
import { isDraft } from './changes.ts'
import { refusal } from './file-errors.ts'
import { type FileListener, PerListener } from './listener.ts'
import { type WorkspaceRoot, withPlace } from './walk.ts'

/** Of one connection; each takes one of the system's. */
const MAX_WATCHES = 64
/** As codex: changes are told together. */
const SETTLE_MS = 200
const MAX_TOLD_PATHS = 1_000

/** codex's fs/watch inside the workspace: a directory's direct entries, or one file that need not be there yet. */
export class FileWatches {
  readonly #root: WorkspaceRoot
  readonly #watches = new PerListener<Map<string, Watch>>(
    () => new Map(),
    (watches) => {
      for (const watch of watches.values()) watch.close()
    }
  )

  constructor(root: WorkspaceRoot) {
    this.#root = root
  }

  async start(listener: FileListener, watchId: string, path: string): Promise<JsonObject> {
    const watches = this.#watches.of(listener)
    if (watches.has(watchId)) throw refusal(`watchId already exists: ${watchId}`)
    if (watches.size >= MAX_WATCHES) throw refusal(`at most ${MAX_WATCHES} watches for one connection`)
    const shown = isAbsolute(path) ? normalize(path) : join(this.#root.viewPath, path)
    const watch = new Watch((changedPaths) => listener.notify('fs/changed', { watchId, changedPaths }))
    watches.set(watchId, watch)
    try {
      await this.#observe(watch, path, shown)
    } catch (error) {
      watches.delete(watchId)
      throw error
    }
    // Gone meanwhile: nobody else would close it.
    if (listener.signal.aborted) watch.close()
    return { path: shown }
  }

  stop(listener: FileListener, watchId: string): JsonObject {
    const watches = this.#watches.of(listener)
    watches.get(watchId)?.close()
    watches.delete(watchId)
    return {}
  }

  async #observe(watch: Watch, path: string, shown: string): Promise<void> {
    await withPlace(this.#root, path, { followsLast: true }, async ({ directory, name, stat }) => {
      if (stat?.isDirectory() !== true) {
        watch.observe(directory.watch((changed) => changed === name && watch.add(shown)))
        return
      }
      const inner = await directory.openDirectory(name)
      try {
        watch.observe(
          inner.watch((changed) => {
            if (!isDraft(changed)) watch.add(join(shown, changed))
          })
        )
      } finally {
        await inner.close()
      }
    })
  }
}

class Watch {
  readonly #tell: (paths: string[]) => void
  readonly #changed = new Set<string>()
  #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(tell: (paths: string[]) => void) {
    this.#tell = tell
  }

  observe(watcher: FSWatcher): void {
    this.#watcher = watcher
    watcher.on('error', () => this.close())
    if (this.#isClosed) this.close()
  }

  add(path: string): void {
    if (this.#isClosed || this.#changed.size >= MAX_TOLD_PATHS) return
    this.#changed.add(path)
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      const paths = [...this.#changed]
      this.#changed.clear()
      this.#tell(paths)
    }, SETTLE_MS)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#watcher?.close()
  }
}
