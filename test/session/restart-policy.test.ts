import t from 'tap'
import type { CodexProcess, ProcessHandlers } from '../../src/codex/process.ts'
import { ProcessKeeper } from '../../src/session/process-keeper.ts'
import { COOL_DOWN_MS, HEALTHY_MS, LOOP_WINDOW_MS, RestartPolicy } from '../../src/session/restart-policy.ts'

/** A policy whose clock and chance the test sets. */
function policyAt(random = 0) {
  const clock = { nowMs: 0, random }
  return { clock, policy: new RestartPolicy({ nowMs: () => clock.nowMs, random: () => clock.random }) }
}

t.test(
  'the first restart is at once, later ones wait twice as long each, half of it by chance, up to 30 s',
  async (t) => {
    const waits = (random: number) => {
      const { clock, policy } = policyAt(random)
      return Array.from({ length: 10 }, () => {
        // Far enough apart to be no crash loop, close enough to be one streak.
        clock.nowMs += LOOP_WINDOW_MS / 4 + 1_000
        t.notOk(policy.onFailure())
        const verdict = policy.next()
        return verdict.kind === 'start' ? verdict.delayMs : verdict.retryAfterMs
      })
    }
    t.strictSame(waits(0), [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
    t.strictSame(waits(1), [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
  }
)

t.test('a short wait is waited out, a long one refuses, and time that passes counts', async (t) => {
  const { clock, policy } = policyAt(1)
  t.strictSame(policy.next(), { kind: 'start', delayMs: 0 })
  for (let n = 0; n < 5; n++) {
    clock.nowMs += LOOP_WINDOW_MS / 4 + 1_000
    policy.onFailure()
  }
  t.strictSame(policy.next(), { kind: 'refuse', retryAfterMs: 4_000, isCrashLoop: false })
  clock.nowMs += 2_000
  t.strictSame(policy.next(), { kind: 'start', delayMs: 2_000 })
  clock.nowMs += 2_000
  t.strictSame(policy.next(), { kind: 'start', delayMs: 0 })
})

t.test('a minute of health clears what was before it, a shorter one does not, nor does a quiet stop', async (t) => {
  const delayAfter = (healthyMs: number, end: 'failure' | 'stop') => {
    const { clock, policy } = policyAt()
    for (let n = 0; n < 3; n++) policy.onFailure()
    policy.onReady()
    clock.nowMs += healthyMs
    if (end === 'stop') policy.onStopped()
    policy.onFailure()
    const verdict = policy.next()
    return verdict.kind === 'start' ? verdict.delayMs : verdict.retryAfterMs
  }
  for (const end of ['failure', 'stop'] as const) {
    t.equal(delayAfter(HEALTHY_MS, end), 0)
    t.equal(delayAfter(HEALTHY_MS - 1, end), 1_000)
  }
})

t.test(
  'five failures within two minutes are a crash loop: refused until the cool-down is over, then one try',
  async (t) => {
    const { clock, policy } = policyAt()
    t.strictSame(
      [1, 2, 3, 4, 5].map(() => policy.onFailure()),
      [false, false, false, false, true]
    )
    t.strictSame(policy.next(), { kind: 'refuse', retryAfterMs: COOL_DOWN_MS, isCrashLoop: true })
    clock.nowMs += COOL_DOWN_MS - 1
    t.strictSame(policy.next(), { kind: 'refuse', retryAfterMs: 1, isCrashLoop: true }, 'also when the rest is short')
    clock.nowMs += 1
    t.strictSame(policy.next(), { kind: 'start', delayMs: 0 })

    policy.onReady()
    clock.nowMs += HEALTHY_MS - 1
    t.ok(policy.onFailure(), 'the one try did not hold')
    t.match(policy.next(), { kind: 'refuse', isCrashLoop: true })
    clock.nowMs += 10 * LOOP_WINDOW_MS
    t.ok(policy.onFailure(), 'and still not after a long time')
    clock.nowMs += COOL_DOWN_MS
    policy.onReady()
    clock.nowMs += HEALTHY_MS
    t.notOk(policy.onFailure(), 'a healthy one ends the story')
    t.strictSame(policy.next(), { kind: 'start', delayMs: 0 })
  }
)

t.test('the fifth failure is no crash loop when the first is older than two minutes', async (t) => {
  const { clock, policy } = policyAt()
  for (let n = 0; n < 4; n++) policy.onFailure()
  clock.nowMs += LOOP_WINDOW_MS + 1
  t.notOk(policy.onFailure())
})

/** A keeper whose starts fail, and what it told. */
function failingKeeper(random = 0) {
  const { clock, policy } = policyAt(random)
  const told: string[] = []
  let starts = 0
  const keeper = new ProcessKeeper(
    {
      start: async (_handlers: ProcessHandlers): Promise<CodexProcess> => {
        starts++
        throw new Error('no such codex')
      },
      onNotification() {},
      onRequest() {},
      onBatchEnd() {},
      onGarbage() {},
      onReady() {},
      onFailed: (error) => told.push(error.message),
      onEnd() {}
    },
    policy
  )
  return { clock, keeper, told, starts: () => starts }
}

t.test(
  'a keeper refuses in a long wait and in a crash loop, tells of the loop once, and tries once after it',
  async (t) => {
    const { clock, keeper, told, starts } = failingKeeper(1)
    for (let n = 0; n < 4; n++) {
      clock.nowMs += LOOP_WINDOW_MS / 4 + 1_000
      await t.rejects(keeper.ensure(), { message: 'no such codex' })
    }
    clock.nowMs += LOOP_WINDOW_MS / 4 + 1_000
    await t.rejects(keeper.ensure(), { message: 'no such codex' })
    const delayed = { code: 'CC_RESTART_DELAYED', statusCode: 503, details: { retryAfter: 4 } }
    await t.rejects(keeper.ensure(), { ...delayed, message: /no such codex/ })
    t.equal(starts(), 5, 'a refusal starts nothing')
    t.strictSame(told, Array(5).fill('no such codex'))

    clock.nowMs += 4_000
    await t.rejects(keeper.ensure(), { message: 'no such codex' })
    t.equal(told.length, 6)
    t.match(told.at(-1), /again and again within 2 minutes; the next try is in 60 s\. Last: no such codex/)
    const loop = { code: 'CC_CRASH_LOOP', statusCode: 503, details: { retryAfter: 60 } }
    for (let n = 0; n < 3; n++) await t.rejects(keeper.ensure(), loop)
    t.equal(starts(), 6)
    t.equal(told.length, 6)

    clock.nowMs += COOL_DOWN_MS
    const [first, second] = [keeper.ensure(), keeper.ensure()]
    await t.rejects(first, { message: 'no such codex' })
    await t.rejects(second, { message: 'no such codex' })
    t.equal(starts(), 7, 'one try for all that ask')
    await t.rejects(keeper.ensure(), loop)
  }
)

t.test('requests that come during a short wait share one start; a close cuts the wait short', async (t) => {
  const { keeper, starts } = failingKeeper()
  for (let n = 0; n < 3; n++) await t.rejects(keeper.ensure(), { message: 'no such codex' })
  await Promise.all([1, 2, 3].map(() => t.rejects(keeper.ensure(), { message: 'no such codex' })))
  t.equal(starts(), 4)

  const waiting = keeper.ensure()
  const startMs = performance.now()
  await Promise.all([keeper.close('test'), t.rejects(waiting, { code: 'CC_SHUTTING_DOWN' })])
  t.ok(performance.now() - startMs < 500, 'the wait was 1 s')
  t.equal(starts(), 4)
  await t.rejects(keeper.ensure(), { code: 'CC_SHUTTING_DOWN' })
})
