import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Head } from './record.ts'

/** Keeps the newest durable head in a place of its own: a log cut at its end does not reach it. */
export interface HeadStore {
  /** Undefined when none was ever kept, or it is unreadable. */
  get(): Promise<Head | undefined>
  /** Called with rising `seq`, one call at a time. */
  put(head: Head): Promise<void>
}

/** The head in `head.json` beside the log: shows an accident, not an attacker who can write the directory. */
export class FileHeadStore implements HeadStore {
  readonly #path: string

  constructor(dir: string) {
    this.#path = join(dir, 'head.json')
  }

  async get(): Promise<Head | undefined> {
    try {
      const head: Partial<Head> = JSON.parse(await readFile(this.#path, 'utf8'))
      const { seq, hash } = head
      return typeof seq === 'number' && typeof hash === 'string' ? { seq, hash } : undefined
    } catch {
      return undefined
    }
  }

  async put(head: Head): Promise<void> {
    const draft = `${this.#path}.draft`
    await writeFile(draft, `${JSON.stringify(head)}\n`, { mode: 0o600 })
    await rename(draft, this.#path)
  }
}

/** Puts the newest head behind the appends: one put at a time, what came in between is folded. */
export class HeadKeeper {
  readonly #store: HeadStore
  readonly #onError: (err: unknown) => void
  #newest: Head | undefined
  #running: Promise<void> | undefined

  constructor(store: HeadStore, onError: (err: unknown) => void) {
    this.#store = store
    this.#onError = onError
  }

  keep(head: Head): void {
    this.#newest = head
    this.#running ??= this.#run()
  }

  /** Resolves when the newest head was put or has failed. */
  async flush(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    while (this.#newest) {
      const head = this.#newest
      this.#newest = undefined
      await this.#store.put(head).catch(this.#onError)
    }
    this.#running = undefined
  }
}
