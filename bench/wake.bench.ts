import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { BareCodexHome, type Profile } from './support/bare-codex.ts'
import { BenchClient } from './support/client.ts'
import { describeMachine, judge, spread } from './support/figures.ts'
import { type BenchGateway, startGateway } from './support/gateway.ts'
import { codexChildrenOf, forkModule, nextMessage, scratchDirectory, stop } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 11)
const RECOVERIES = Number(process.env.RECOVERIES ?? 7)
const HISTORY_TURNS = 20
const GOAL_WAKE = 3.5
const GOAL_RECOVERY = 1.1
const IDLE_TIMEOUT_MS = 1_000
const POLL_MS = 10
const DELTAS_PER_SECOND = 1_000
const SHORT_TURN = 'flood: 20'
/** Runs for seconds: it is killed in the middle. */
const LONG_TURN = 'flood: 10000'

describeMachine()
const root = scratchDirectory()
const model = forkModule('./paced-model.ts', [String(DELTAS_PER_SECOND)])
const MODEL_BASE_URL = await nextMessage<string>(model)

const urlOf = ({ port }: BenchGateway, userId: string) => `ws://127.0.0.1:${port}/ws?userId=${userId}`

/** A user with a thread that has so much history. */
async function arrive(gateway: BenchGateway, userId: string): Promise<{ client: BenchClient; threadId: string }> {
  const client = await BenchClient.connect(urlOf(gateway, userId))
  const threadId = await client.startThread()
  for (let n = 0; n < HISTORY_TURNS; n++) await client.runTurn(threadId, SHORT_TURN)
  return { client, threadId }
}

async function sendToFirstDelta(client: BenchClient, threadId: string): Promise<number> {
  const first = client.next('item/agentMessage/delta')
  const completed = client.next('turn/completed')
  const startMs = performance.now()
  const started = client.request('turn/start', { threadId, input: [{ type: 'text', text: SHORT_TURN }] })
  await first
  const tookMs = performance.now() - startMs
  await started
  await completed
  return tookMs
}

async function measureWake(): Promise<{ liveMs: number; wakeMs: number }[]> {
  const gateway = await startGateway(root, { MODEL_BASE_URL, IDLE_TIMEOUT_MS: String(IDLE_TIMEOUT_MS) })
  const { client, threadId } = await arrive(gateway, 'sleeper')
  const rounds: { liveMs: number; wakeMs: number }[] = []
  for (let n = 0; n <= ROUNDS; n++) {
    const liveMs = await sendToFirstDelta(client, threadId)
    while (codexChildrenOf(gateway.pid).length > 0) await delay(POLL_MS)
    const wakeMs = await sendToFirstDelta(client, threadId)
    if (n > 0) rounds.push({ liveMs, wakeMs })
  }
  client.close()
  await stop(gateway.child)
  return rounds
}

/** SIGKILL in the middle of a turn → thread/resume answered, as a client of the gateway sees it. */
async function recoverThroughGateway(gateway: BenchGateway, round: number): Promise<number> {
  const known = new Set(codexChildrenOf(gateway.pid))
  const { client, threadId } = await arrive(gateway, `unlucky-${round}`)
  const pid = codexChildrenOf(gateway.pid).find((child) => !known.has(child)) as number
  const streaming = client.next('item/agentMessage/delta')
  await client.request('turn/start', { threadId, input: [{ type: 'text', text: LONG_TURN }] })
  await streaming
  const crashed = client.next('session/state', ({ payload }) => payload.state === 'crashed')
  const startMs = performance.now()
  process.kill(pid, 'SIGKILL')
  await crashed
  await client.request('thread/resume', { threadId, excludeTurns: true })
  const tookMs = performance.now() - startMs
  client.close()
  return tookMs
}

/** The same history: spawn → thread/resume answered, with nothing in between. */
async function recoverBare(round: number, profile: Profile): Promise<number> {
  const home = await BareCodexHome.create(join(root, `bare-${profile}-${round}`), MODEL_BASE_URL, profile)
  const first = await home.start()
  const threadId = await first.startThread()
  for (let n = 0; n < HISTORY_TURNS; n++) await first.runTurn(threadId, SHORT_TURN)
  const streaming = first.next('item/agentMessage/delta')
  await first.request('turn/start', { threadId, input: [{ type: 'text', text: LONG_TURN, text_elements: [] }] })
  await streaming
  await first.kill()
  const startMs = performance.now()
  const second = await home.start()
  await second.request('thread/resume', { threadId, excludeTurns: true })
  const tookMs = performance.now() - startMs
  await second.process.stop()
  return tookMs
}

interface Recovery {
  oursMs: number
  tunedMs: number
  defaultMs: number
}

async function measureRecovery(): Promise<Recovery[]> {
  const gateway = await startGateway(root, { MODEL_BASE_URL })
  const rounds: Recovery[] = []
  for (let n = 0; n <= RECOVERIES; n++) {
    const early = n % 2 === 0 ? await recoverBare(n, 'tuned') : undefined
    const defaultMs = await recoverBare(n, 'default')
    const oursMs = await recoverThroughGateway(gateway, n)
    const tunedMs = early ?? (await recoverBare(n, 'tuned'))
    if (n > 0) rounds.push({ oursMs, tunedMs, defaultMs })
  }
  await stop(gateway.child)
  return rounds
}

const wakes = await measureWake()
const recoveries = await measureRecovery()
console.log(
  `send to first delta: live ${spread(wakes.map(({ liveMs }) => liveMs))} ms, hibernated ${spread(wakes.map(({ wakeMs }) => wakeMs))} ms`
)
const [ours, tuned, plain] = (['oursMs', 'tunedMs', 'defaultMs'] as const).map((side) =>
  spread(recoveries.map((round) => round[side]))
)
console.log(`killed to resumed: gateway ${ours} ms; bare spawn to resumed, default profile ${plain}, ours ${tuned} ms`)
judge(
  `hibernated user, ${HISTORY_TURNS} turns, send to first delta: hibernated / live`,
  wakes.map(({ liveMs, wakeMs }) => wakeMs / liveMs),
  { atMost: GOAL_WAKE }
)
judge(
  "kill -9 to thread resumed: ours / bare spawn and resume of codex's default profile",
  recoveries.map(({ oursMs, defaultMs }) => oursMs / defaultMs),
  { atMost: GOAL_RECOVERY }
)
judge(
  'kill -9 to thread resumed: ours / bare spawn and resume of the same profile',
  recoveries.map(({ oursMs, tunedMs }) => oursMs / tunedMs),
  { atMost: GOAL_RECOVERY }
)
process.exit()
