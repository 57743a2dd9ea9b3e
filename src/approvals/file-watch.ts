import { unwatchFile, watchFile } from 'node:fs'

const INTERVAL_MS = 500
/** Writers change a file in several steps; this long after the last one it is looked at. */
const SETTLE_MS = 100

/**
 * Calls back a moment after the file at a path became another: written, replaced, or because a link on the way to it
 * leads elsewhere now. It looks at the path again and again: the events of a file system end at the directory that was
 * there at first, and do not come at all from other hosts and through some mounts of containers.
 */
export class FileWatch {
  readonly #file: string
  readonly #onStats: () => void
  #timer: NodeJS.Timeout | undefined

  constructor(file: string, onChange: () => void) {
    this.#file = file
    this.#onStats = () => {
      clearTimeout(this.#timer)
      this.#timer = setTimeout(onChange, SETTLE_MS)
    }
    watchFile(file, { interval: INTERVAL_MS }, this.#onStats)
  }

  close(): void {
    clearTimeout(this.#timer)
    unwatchFile(this.#file, this.#onStats)
  }
}
