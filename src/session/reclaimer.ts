/** What was active within this long is not taken a process from, however short they are. */
const MIN_IDLE_MS = 1_000

/** A session whose process may be stopped while it has nothing to do. */
export interface Reclaimable {
  /** It has a process that is ready and that nothing runs or waits in. */
  readonly isIdle: boolean
  readonly lastActiveAtMs: number
  /** Stops the process if it is still idle when asked closely; false when it is not. */
  hibernate(reason: string): Promise<boolean>
}

/** Takes processes back from the sessions that have been idle the longest. */
export class Reclaimer {
  readonly #sessions: () => Iterable<Reclaimable>
  readonly #claimed = new Set<Reclaimable>()

  constructor(sessions: () => Iterable<Reclaimable>) {
    this.#sessions = sessions
  }

  /**
   * Stops the process that has been idle the longest. False when there is none; calls at the same time take different
   * ones.
   */
  async reclaim(reason: string): Promise<boolean> {
    const refused = new Set<Reclaimable>()
    for (;;) {
      const session = this.#longestIdle(refused)
      if (session === undefined) return false
      this.#claimed.add(session)
      try {
        if (await session.hibernate(reason)) return true
      } finally {
        this.#claimed.delete(session)
      }
      refused.add(session)
    }
  }

  #longestIdle(refused: ReadonlySet<Reclaimable>): Reclaimable | undefined {
    const latestMs = Date.now() - MIN_IDLE_MS
    let longest: Reclaimable | undefined
    for (const session of this.#sessions()) {
      if (!session.isIdle || session.lastActiveAtMs > (longest?.lastActiveAtMs ?? latestMs)) continue
      if (!this.#claimed.has(session) && !refused.has(session)) longest = session
    }
    return longest
  }
}
