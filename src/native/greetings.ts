import { frameOf } from './native-frames.ts'
import { methodOf } from './subscriptions.ts'

const EMITTED_AT = Buffer.from(',"emittedAtMs":')

/** What codex tells every client behind its `initialize`, once: also when its process has said it long before. */
export class Greetings {
  readonly #told = new Set<string>()

  /** Those lines that the client wants, as frames. */
  frames(notices: readonly Buffer[], wants: (method: string) => boolean): Buffer[] {
    return notices
      .filter((line) => wants(methodOf(line, 0, line.length) ?? '') && this.isNew(line))
      .map((line) => frameOf(line))
  }

  /** Whether the client has not been told this before; it counts as told from now on. */
  isNew(line: Buffer): boolean {
    const text = line.toString('utf8', 0, line.lastIndexOf(EMITTED_AT))
    if (this.#told.has(text)) return false
    this.#told.add(text)
    return true
  }
}
