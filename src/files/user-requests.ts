import { TooManyInFlight } from '../../errors.ts'

/** What goes on for each user: so much at once, and to be waited for at the end. */
export class UserRequests {
  readonly #max: number
  readonly #running = new Map<string, Set<Promise<void>>>()

  constructor(max: number) {
    this.#max = max
  }

  /** Runs one of the user's; it counts until the promise that it may add to `lasting` is settled, too. */
  async run<T>(userId: string, task: (lasting: Promise<void>[]) => Promise<T>): Promise<T> {
    const running = this.#running.get(userId) ?? new Set()
    if (running.size >= this.#max) throw new TooManyInFlight(this.#max)
    this.#running.set(userId, running)
    const lasting: Promise<void>[] = []
    const answer = task(lasting)
    const over = answer
      .then(() => Promise.all(lasting))
      .catch(() => {})
      .then(() => {
        running.delete(over)
        if (running.size === 0) this.#running.delete(userId)
      })
    running.add(over)
    return answer
  }

  /** Settles when all that runs now has ended. */
  async ended(): Promise<void> {
    await Promise.all([...this.#running.values()].flatMap((running) => [...running]))
  }
}
