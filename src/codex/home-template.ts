import { randomUUID } from 'node:crypto'
import { access, cp, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** What identifies or belongs to the home it was made in; a copy must not share it. */
const NOT_COPIED = new Set(['installation_id', 'tmp', 'log', 'config.toml', 'auth.json', 'sessions'])

/**
 * A codex home that codex has already filled (its databases created and migrated), kept to be copied for new users:
 * a copy starts about twice as fast as an empty home. One per codex version.
 */
export class HomeTemplate {
  readonly #directory: string
  #making: Promise<void> | undefined

  /** @param directory where the template is kept between runs; its name should hold the codex version */
  constructor(directory: string) {
    this.#directory = directory
  }

  /**
   * Makes the template unless it is there: `fill` runs codex once on the empty home it is given. Concurrent calls
   * share one run.
   */
  async prepare(fill: (codexHome: string) => Promise<void>): Promise<void> {
    this.#making ??= this.#make(fill)
    await this.#making
  }

  /** Copies the template into an empty codex home; leaves a home that has been used alone. */
  async seed(codexHome: string): Promise<void> {
    if ((await readdir(codexHome)).length > 0) return
    for (const name of await readdir(this.#directory).catch(() => [])) {
      if (!NOT_COPIED.has(name)) await cp(join(this.#directory, name), join(codexHome, name), { recursive: true })
    }
  }

  async #make(fill: (codexHome: string) => Promise<void>): Promise<void> {
    const exists = await access(this.#directory).then(
      () => true,
      () => false
    )
    if (exists) return
    const draft = `${this.#directory}.${randomUUID()}`
    await mkdir(draft, { recursive: true, mode: 0o700 })
    try {
      await fill(draft)
      // Renamed only when whole: a template cut short by a crash would be copied into every new home.
      await rename(draft, this.#directory)
    } finally {
      await rm(draft, { recursive: true, force: true })
    }
  }
}
