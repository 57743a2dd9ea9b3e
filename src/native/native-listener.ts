import type { FileListener } from '../files/listener.ts'
import type { JsonObject } from '../json.ts'

/** Notifications that the gateway makes for one client alone. Costs nothing until something wants to know of its end. */
export class NativeListener implements FileListener {
  readonly #send: (line: Buffer) => void
  readonly #wants: (method: string) => boolean
  #end: AbortController | undefined

  /**
   * @param wants whether the client takes notifications of this method
   * @param send the JSON text of one message
   */
  constructor(wants: (method: string) => boolean, send: (line: Buffer) => void) {
    this.#wants = wants
    this.#send = send
  }

  get signal(): AbortSignal {
    this.#end ??= new AbortController()
    return this.#end.signal
  }

  notify(method: string, params: JsonObject): void {
    if (!this.#wants(method)) return
    this.#send(Buffer.from(JSON.stringify({ method, params, emittedAtMs: Date.now() })))
  }

  close(): void {
    this.#end ??= new AbortController()
    this.#end.abort()
  }
}
