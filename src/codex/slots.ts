import { PoolFull, ShuttingDown, withDetails } from '../../errors.ts'

const RETRY_AFTER_S = 5

/** A bounded number of places. One that becomes free goes to whoever has waited for it longest. */
export class Slots {
  readonly max: number
  #taken = 0
  #waiting: (() => void)[] = []

  constructor(max: number) {
    this.max = max
  }

  get taken(): number {
    return this.#taken
  }

  /**
   * Takes a place; give it back with {@link release}. With none free, `makeRoom` is asked to free one, false when it
   * cannot. Throws PoolFull, ShuttingDown when `signal` aborts, and what makeRoom throws.
   */
  async take(makeRoom: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    if (this.#taken < this.max) {
      this.#taken++
      return
    }
    let isGranted = false
    let onAbort = () => {}
    const granted = new Promise<boolean>((resolve) => {
      onAbort = () => resolve(false)
      this.#waiting.push(() => {
        isGranted = true
        resolve(true)
      })
    })
    const place = this.#waiting.at(-1)
    signal?.addEventListener('abort', onAbort)
    try {
      // What was freed may have gone to somebody who waited longer: then there is one less before us.
      while (!isGranted && !signal?.aborted && (await Promise.race([granted, makeRoom()]))) {}
    } finally {
      signal?.removeEventListener('abort', onAbort)
      if (!isGranted) this.#waiting = this.#waiting.filter((other) => other !== place)
    }
    if (isGranted) return
    if (signal?.aborted) throw new ShuttingDown()
    throw withDetails(new PoolFull(this.max), { retryAfter: RETRY_AFTER_S })
  }

  release(): void {
    const next = this.#waiting.shift()
    // Handed on, not freed: a start that comes in this moment must not get what another has made room for.
    if (next) next()
    else this.#taken--
  }
}
