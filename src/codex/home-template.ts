import { randomUUID } from 'node:crypto'
import { access, cp, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

const PRIVATE_MODE = 0o700
/** Longer than a start takes: copying beside it would slow it down. */
const RESTOCK_DELAY_MS = 1_000
/** What identifies or belongs to the home it was made in; a copy must not share it. */
const NOT_COPIED = new Set(['installation_id', 'tmp', 'log', 'config.toml', 'auth.json', 'sessions'])

/**
 * A codex home that codex has already filled (its databases created and migrated), kept to be copied for new users:
 * a copy starts about twice as fast as an empty home. One copy is made ahead, because copying takes as long as a
 * fifth of a start. One template per codex version.
 */
export class HomeTemplate {
  readonly #directory: string
  #making: Promise<void> | undefined
  /** The path of a whole copy that nobody uses yet. */
  #spare: string | undefined
  #restocking: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #isMade = false
  #closed = false

  /** @param directory where the template is kept between runs; its name should hold the codex version */
  constructor(directory: string) {
    this.#directory = directory
  }

  /**
   * Makes the template unless it is there, and the copy ahead: `fill` runs codex once on the empty home it is given.
   * Concurrent calls share one run.
   */
  async prepare(fill: (codexHome: string) => Promise<void>): Promise<void> {
    this.#making ??= this.#make(fill)
    await this.#making
    this.#isMade = true
    await this.#restockOnce()
  }

  /** Turns an empty codex home into a copy of the template; leaves a home that has been used alone. */
  async seed(codexHome: string): Promise<void> {
    if ((await readdir(codexHome)).length > 0) return
    const spare = this.#spare
    this.#spare = undefined
    if (spare !== undefined && (await this.#moveInto(codexHome, spare))) return
    await this.#moveInto(codexHome, await this.#makeCopy())
  }

  /** Has the copy ahead for the next new user made in a while, when the start that used the last one is over. */
  restockSoon(): void {
    if (this.#closed || this.#spare !== undefined) return
    // A copy that cannot be made now is made, or fails loudly, when the next new user needs one.
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.#restockOnce().catch(() => {})
    }, RESTOCK_DELAY_MS)
  }

  /** Waits for a copy that is being made; makes no more. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#restocking?.catch(() => {})
  }

  #restockOnce(): Promise<void> {
    if (!this.#isMade || this.#spare !== undefined || this.#closed) return Promise.resolve()
    this.#restocking ??= this.#restock().finally(() => {
      this.#restocking = undefined
    })
    return this.#restocking
  }

  async #restock(): Promise<void> {
    this.#spare = await this.#makeCopy()
  }

  /** A whole copy, beside the template. Nothing is left of one that fails. */
  async #makeCopy(): Promise<string> {
    const copy = this.#draft()
    await mkdir(copy, { mode: PRIVATE_MODE })
    try {
      const names = await readdir(this.#directory).catch(() => [])
      const kept = names.filter((name) => !NOT_COPIED.has(name))
      for (const name of kept) await cp(join(this.#directory, name), join(copy, name), { recursive: true })
      return copy
    } catch (error) {
      await rm(copy, { recursive: true, force: true })
      throw error
    }
  }

  /**
   * Makes a copy the home, in one step: a home that a crash left half filled would pass for one that has been used. A
   * directory may be renamed onto an empty one, and only onto an empty one: nothing can be overwritten.
   */
  async #moveInto(codexHome: string, copy: string): Promise<boolean> {
    try {
      await rename(copy, codexHome)
      return true
    } catch {
      await rm(copy, { recursive: true, force: true })
      return false
    }
  }

  async #make(fill: (codexHome: string) => Promise<void>): Promise<void> {
    await this.#removeDrafts()
    const exists = await access(this.#directory).then(
      () => true,
      () => false
    )
    if (exists) return
    const draft = this.#draft()
    await mkdir(draft, { recursive: true, mode: PRIVATE_MODE })
    try {
      await fill(draft)
      // Renamed only when whole: a template cut short by a crash would be copied into every new home.
      await rename(draft, this.#directory)
    } finally {
      await rm(draft, { recursive: true, force: true })
    }
  }

  #draft(): string {
    return `${this.#directory}.${randomUUID()}`
  }

  /** Copies and half-made templates of a gateway that is gone; the data directory is locked, so nobody uses them. */
  async #removeDrafts(): Promise<void> {
    const parent = dirname(this.#directory)
    const prefix = `${basename(this.#directory)}.`
    for (const name of await readdir(parent).catch(() => [])) {
      if (name.startsWith(prefix)) await rm(join(parent, name), { recursive: true, force: true })
    }
  }
}
