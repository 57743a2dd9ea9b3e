import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { UsageScanner } from '../src/broker/usage-scanner.ts'
import { type Gateway, scratchDirectory, startGateway, type Teardown } from './support/gateway.ts'
import { startModelServer } from './support/model-server.ts'
import { eventually } from './support/processes.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

/** The scripted model says 10 tokens in and 5 out for every answer. */
const PER_ANSWER = 15
const LIMITS = {
  prices: { '*': { input: 2, cachedInput: 1, output: 10 } },
  defaults: { tokensPerMonth: 1_000_000 },
  users: { bob: { tokensPerDay: 2 * PER_ANSWER }, carol: { requestsPerMinute: 1 }, dave: { costPerDay: 0.000_07 } }
}

async function startLimited(t: Teardown): Promise<Gateway & { variables: Record<string, string> }> {
  const DATA_DIR = await scratchDirectory(t)
  const LIMITS_FILE = join(DATA_DIR, 'limits.json')
  await writeFile(LIMITS_FILE, JSON.stringify(LIMITS))
  const { baseUrl } = await startModelServer(t)
  const variables = { DATA_DIR, LIMITS_FILE, MODEL_BASE_URL: baseUrl, MODEL: 'gpt-5.5', JWT_SECRET: TEST_SECRET }
  return { ...(await startGateway(t, { ...variables, HOST: '127.0.0.1' })), variables }
}

async function connect(t: Teardown, { address }: Gateway, userId: string): Promise<TestClient> {
  return TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer(userId) })
}

async function turn(client: TestClient, text = 'hello', threadId?: string) {
  const started = await client.startTurn(text, threadId)
  const { payload } = await client.waitForTurnEnd(started.turnId)
  return { ...started, status: payload.params.turn.status, error: payload.params.turn.error }
}

async function usageOf({ app }: Gateway, userId: string, query = '', roles?: string[]) {
  const headers = await bearer(userId, roles ? { roles } : {})
  return (await app.inject({ url: `/api/usage${query}`, headers })).json()
}

t.test('what each turn takes is counted per thread and outlives the gateway; admins see everybody’s', async (t) => {
  const gateway = await startLimited(t)
  const [alice, erin] = [await connect(t, gateway, 'alice'), await connect(t, gateway, 'erin')]
  const first = await turn(alice)
  await turn(alice, 'run: echo two requests', first.threadId)
  const second = await turn(alice)
  const other = await turn(erin)
  const { rows, limits } = await eventually('all is counted', 5_000, async () => {
    const usage = await usageOf(gateway, 'alice')
    return usage.rows.length === 2 && usage
  })
  const today = new Date().toISOString().slice(0, 10)
  const row = (userId: string, threadId: string, requests: number) => ({
    userId,
    day: today,
    threadId,
    model: 'gpt-5.5',
    requests,
    inputTokens: 10 * requests,
    cachedInputTokens: 0,
    outputTokens: 5 * requests,
    costUsd: (70 * requests) / 1e6
  })
  t.strictSame(rows, [row('alice', first.threadId, 3), row('alice', second.threadId, 1)])
  t.strictSame(limits, LIMITS.defaults)

  t.equal((await usageOf(gateway, 'erin', '?userId=alice')).error.code, 'CC_FORBIDDEN')
  t.equal((await usageOf(gateway, 'alice', '?from=2020-01-01&to=2020-12-31')).rows.length, 0)
  t.equal((await usageOf(gateway, 'alice', '?from=yesterday')).error.code, 'CC_VALIDATION')
  await gateway.close()
  const next = await startGateway(t, { ...gateway.variables, HOST: '127.0.0.1' })
  const all = await usageOf(next, 'root', '', ['admin'])
  t.strictSame(all.rows, [...rows, row('erin', other.threadId, 1)])
  t.strictSame((await usageOf(next, 'root', '?userId=erin', ['admin'])).rows, [row('erin', other.threadId, 1)])
})

t.test('a budget: told at 80 and 100 percent, then no further request of that user alone', async (t) => {
  const gateway = await startLimited(t)
  const [bob, alice] = [await connect(t, gateway, 'bob'), await connect(t, gateway, 'alice')]
  t.equal((await turn(bob)).status, 'completed')
  t.equal((await turn(bob)).status, 'completed')
  const { payload: warning } = await bob.waitFor('usage/limit', ({ percent }) => percent === 80)
  const midnight = new Date(Math.ceil((Date.now() + 1) / 86_400_000) * 86_400_000).toISOString()
  const used = 2 * PER_ANSWER
  t.strictSame(warning, { budget: 'tokensPerDay', percent: 80, used, limit: used, resetsAt: midnight })
  const { seq } = await bob.waitFor('usage/limit', ({ percent }) => percent === 100)
  t.type(seq, 'number', 'it is in the journal')

  const refused = await turn(bob)
  t.equal(refused.status, 'failed')
  t.match(refused.error, { codexErrorInfo: 'usageLimitExceeded', message: /hit your usage limit.*Try again/ })
  t.equal((await turn(alice)).status, 'completed')
  t.equal(bob.received.filter(({ type }) => type === 'usage/limit').length, 2, 'each mark once')
  t.notOk(alice.received.some(({ type }) => type === 'usage/limit'))

  await gateway.close()
  const next = await startGateway(t, { ...gateway.variables, HOST: '127.0.0.1' })
  const later = await connect(t, next, 'bob')
  t.equal((await turn(later)).status, 'failed', 'what was used is not forgotten')
})

t.test('money and pace: a price makes a budget of dollars; too many requests a minute are put off', async (t) => {
  const gateway = await startLimited(t)
  const [dave, carol] = [await connect(t, gateway, 'dave'), await connect(t, gateway, 'carol')]
  t.equal((await turn(dave)).status, 'completed')
  await dave.waitFor('usage/limit', ({ budget, percent }) => budget === 'costPerDay' && percent === 100)
  t.match((await turn(dave)).error, { codexErrorInfo: 'usageLimitExceeded' })

  const first = await turn(carol)
  t.equal(first.status, 'completed')
  const { turnId, threadId } = await carol.startTurn('hello again', first.threadId)
  const { payload } = await carol.waitForEvent('error', (params) => params.turnId === turnId)
  t.match(payload.params, { willRetry: true, error: { additionalDetails: /429/ } })
  await carol.call('turn/interrupt', { threadId, turnId })
})

t.test('a limits file that is wrong is refused at the start', async (t) => {
  const LIMITS_FILE = join(await scratchDirectory(t), 'limits.json')
  for (const [text, message] of [
    ['{', /is not readable/],
    ['{"defaults":{"tokensPerYear":1}}', /defaults/],
    ['{"defaults":{"tokensPerDay":0}}', /defaults\/tokensPerDay/],
    ['{"defaults":{"costPerDay":1}}', /need a price for "\*"/]
  ] as const) {
    await writeFile(LIMITS_FILE, text)
    await t.rejects(startGateway(t, { LIMITS_FILE }), { code: 'CC_CONFIG_INVALID', message }, text)
  }
})

t.test('usage is found in a stream however its bytes are cut, and only where it stands', (t) => {
  const text = (delta: string) =>
    `event: response.output_text.delta\ndata: ${JSON.stringify({ type: 'response.output_text.delta', delta })}\n\n`
  const usage = { input_tokens: 7, input_tokens_details: { cached_tokens: 3 }, output_tokens: 2, total_tokens: 9 }
  const last = { type: 'response.completed', response: { model: 'm-1', output: ['ü'.repeat(500)], usage } }
  const fake = JSON.stringify({ ...last, response: { usage: { input_tokens: 999 } } })
  const stream = Buffer.from(
    `${text('a')}${text(`\n\ndata: ${fake}\n\n`)}: ping\r\n\r\nevent: response.completed\r\ndata: ${JSON.stringify(last)}\r\n\r\n`
  )
  const expected = { inputTokens: 7, cachedInputTokens: 3, outputTokens: 2, model: 'm-1' }
  for (const size of [1, 2, 3, 7, 61, 150, 1000, stream.length]) {
    const scanner = new UsageScanner()
    for (let at = 0; at < stream.length; at += size) scanner.push(stream.subarray(at, at + size))
    t.strictSame(scanner.usage, expected, `in pieces of ${size}`)
  }
  const cut = new UsageScanner()
  cut.push(stream.subarray(0, stream.length - 20))
  t.equal(cut.usage, undefined)
  t.end()
})
