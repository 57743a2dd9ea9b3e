import { availableParallelism, loadavg } from 'node:os'

/** The middle value; of an even number of values the mean of the middle two. NaN when there are none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** The value below which this part (0 to 1) of the values lies. NaN when there are none. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)] ?? Number.NaN
}

/** `median [min..max]`, with so many digits after the point. */
export function spread(values: readonly number[], digits = 0): string {
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((n) => n.toFixed(digits))
  return `${middle} [${low}..${high}]`
}

/** One line that says whether the goal was met; sets the exit code when it was not. */
export function judge(what: string, ratios: readonly number[], goal: { atLeast?: number; atMost?: number }): void {
  const ratio = median(ratios)
  const isMet = ratio >= (goal.atLeast ?? -Infinity) && ratio <= (goal.atMost ?? Infinity)
  const bound = goal.atLeast === undefined ? `<= ${goal.atMost}` : `>= ${goal.atLeast}`
  console.log(
    `${isMet ? 'MET   ' : 'MISSED'} ${what}: ${spread(ratios, 3)} over ${ratios.length} rounds, goal ${bound}`
  )
  if (!isMet) process.exitCode = 1
}

/** One line on the machine, to be printed before anything runs: figures of a busy one do not count. */
export function describeMachine(): void {
  const load = (loadavg()[0] as number).toFixed(2)
  console.log(`${availableParallelism()} cores, load average at the start ${load}, Node ${process.versions.node}`)
}
