/** Lets requests about one thread reach codex in the order in which they came, whatever has to be looked up before. */
export class SendOrder {
  readonly #last = new Map<string, Promise<void>>()

  /**
   * Runs `send` once all requests before it about the same thread have called their `onSent`, or have ended.
   *
   * @param threadId undefined for a request that need not wait
   */
  async run<T>(threadId: string | undefined, send: (onSent: () => void) => Promise<T>): Promise<T> {
    if (threadId === undefined) return send(() => {})
    const before = this.#last.get(threadId)
    let onSent = () => {}
    const sent = new Promise<void>((resolve) => {
      onSent = resolve
    })
    this.#last.set(threadId, sent)
    if (before !== undefined) await before
    try {
      return await send(onSent)
    } finally {
      onSent()
      if (this.#last.get(threadId) === sent) this.#last.delete(threadId)
    }
  }
}
