import type { JsonObject } from '../json.ts'
import { refusal } from './file-errors.ts'

/** A connection that stays and takes notifications of its own, as codex's clients do. */
export interface FileListener {
  notify(method: string, params: JsonObject): void
  /** Aborts when the connection is gone. */
  readonly signal: AbortSignal
}

/** The listener; throws for a client that could not be told. */
export function listening(listener: FileListener | undefined, method: string): FileListener {
  if (listener === undefined) throw refusal(`${method} tells clients of the native protocol only`)
  return listener
}

/** What belongs to each connection, until it is gone. */
export class PerListener<T> {
  readonly #make: () => T
  readonly #end: (value: T) => void
  readonly #values = new WeakMap<FileListener, T>()

  constructor(make: () => T, end: (value: T) => void) {
    this.#make = make
    this.#end = end
  }

  of(listener: FileListener): T {
    const known = this.#values.get(listener)
    if (known !== undefined) return known
    const value = this.#make()
    this.#values.set(listener, value)
    listener.signal.addEventListener('abort', () => this.#end(value), { once: true })
    return value
  }
}
