import type { Stats } from 'node:fs'
import type { Directory } from './directory.ts'

export interface TreeEntry {
  directory: Directory
  name: string
  /** Not followed. */
  stat: Stats
}

/** A walk through a directory and those in it, each before its content, by name. Links are met, never followed. */
export class TreeWalk {
  readonly #maxDepth: number
  #left: number
  #isTruncated = false

  /** @param maxDepth 1: what is directly in the directory */
  constructor(maxEntries: number, maxDepth: number) {
    this.#left = maxEntries
    this.#maxDepth = maxDepth
  }

  /** Whether there was more than `maxEntries`. */
  get isTruncated(): boolean {
    return this.#isTruncated
  }

  async *entries(directory: Directory, depth = 1): AsyncGenerator<TreeEntry, void, void> {
    const listed = await directory.list(this.#left + 1)
    listed.sort((a, b) => (a.name < b.name ? -1 : 1))
    for (const { name } of listed) {
      const stat = await directory.lstat(name).catch(() => undefined)
      // Gone since it was listed.
      if (stat === undefined) continue
      if (this.#left === 0) {
        this.#isTruncated = true
        return
      }
      this.#left -= 1
      yield { directory, name, stat }
      if (stat.isDirectory() && depth < this.#maxDepth) yield* this.#inside(directory, name, depth + 1)
    }
  }

  async *#inside(directory: Directory, name: string, depth: number): AsyncGenerator<TreeEntry, void, void> {
    // By now it may be gone, or a link; or the gateway may not enter it.
    const inner = await directory.openDirectory(name).catch(() => undefined)
    if (inner === undefined) return
    try {
      yield* this.entries(inner, depth)
    } finally {
      await inner.close()
    }
  }
}
