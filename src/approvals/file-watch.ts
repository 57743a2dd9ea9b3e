import { type FSWatcher, watch } from 'node:fs'
import { dirname } from 'node:path'

/** Writers change a file in several steps; this long after the last one it is looked at. */
const SETTLE_MS = 100

/**
 * Calls back a moment after anything changed in the directory of `file`. The directory, not the file: editors and
 * mounted configurations replace the file, and a watch on the old one would see nothing any more.
 */
export class FileWatch {
  readonly #watcher: FSWatcher
  #timer: NodeJS.Timeout | undefined

  /** @param onError the watch has ended; changes are not seen from here on */
  constructor(file: string, onChange: () => void, onError: (error: Error) => void) {
    this.#watcher = watch(dirname(file), () => {
      clearTimeout(this.#timer)
      this.#timer = setTimeout(onChange, SETTLE_MS)
    })
    this.#watcher.on('error', onError)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#watcher.close()
  }
}
