import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { locateCodexBinary } from '../src/codex/binary.ts'
import { pipedOutput } from '../src/codex/output-socket.ts'
import { ProcessPool } from '../src/codex/pool.ts'
import { CodexProcess, type ProcessHandlers } from '../src/codex/process.ts'
import { readCodexVersion } from '../src/codex/version.ts'
import { chooseBubblewrap } from '../src/isolation/choose-bubblewrap.ts'
import type { Launcher } from '../src/isolation/launcher.ts'
import { noneLauncher } from '../src/isolation/none-launcher.ts'
import { describeMachine, judge, spread } from './support/figures.ts'
import { scratchDirectory } from './support/processes.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 15)
const GOAL = 0.5
/** In a box, against the same start without one. */
const BOX_GOAL = 1.3
const REQUEST_TIMEOUT_MS = 30_000
/** Nobody listens there: a start must not need the model. */
const BASE_URL = 'http://127.0.0.1:1/v1'

describeMachine()
const root = scratchDirectory()
const binary = locateCodexBinary()
const PATH = process.env.PATH ?? ''
const silent: ProcessHandlers = { onNotification() {}, onRequest() {}, onBatchEnd() {}, onGarbage() {}, onExit() {} }

/** Start to thread ready: `initialized` is the time of the first reply of codex, `ready` that of thread/start's. */
interface Start {
  initializedMs: number
  readyMs: number
}

async function measure(cwd: string, start: () => Promise<CodexProcess>): Promise<Start> {
  const startMs = performance.now()
  const process = await start()
  const initializedMs = performance.now() - startMs
  await process.request('thread/start', { cwd }, REQUEST_TIMEOUT_MS)
  const readyMs = performance.now() - startMs
  await process.stop()
  return { initializedMs, readyMs }
}

/** As a person would start it: a new home that holds the provider and nothing else, the machine's own PATH. */
function startDefault(round: number): Promise<Start> {
  const home = join(root, `default-${round}`)
  const codexHome = join(home, '.codex')
  mkdirSync(codexHome, { recursive: true })
  const provider = `name = "bench"\nbase_url = "${BASE_URL}"\nwire_api = "responses"\n`
  writeFileSync(join(codexHome, 'config.toml'), `model_provider = "bench"\n[model_providers.bench]\n${provider}`)
  return measure(home, async () => {
    const env = { PATH, HOME: home, CODEX_HOME: codexHome }
    const child = spawn(binary, ['app-server'], { cwd: home, env })
    const codex = new CodexProcess(child, pipedOutput(child.stdout), `bench-${round}`, silent)
    await codex.initialize('0', REQUEST_TIMEOUT_MS)
    return codex
  })
}

async function startOurs(pool: ProcessPool, userId: string): Promise<Start> {
  const directories = await pool.prepareDirectories(userId)
  return measure(pool.launcher.view(directories).workspace, () => pool.start(userId, silent))
}

const codexVersion = await readCodexVersion(binary)

async function openPool(dataDir: string, launcher: Launcher): Promise<ProcessPool> {
  const pool = new ProcessPool({
    dataDir,
    workspaceRoot: join(dataDir, 'workspaces'),
    binary,
    codexVersion,
    clientVersion: '0',
    maxProcesses: 4,
    launcher,
    provider: { baseUrl: BASE_URL, requiresLogin: false },
    gatewayEnv: { PATH },
    startTimeoutMs: REQUEST_TIMEOUT_MS
  })
  await pool.prepare()
  await pool.warmUp()
  return pool
}

const pool = await openPool(join(root, 'data'), noneLauncher)
const boxData = join(root, 'box')
mkdirSync(boxData)
const box = await chooseBubblewrap({
  binary,
  dataDir: boxData,
  workspaceRoot: join(boxData, 'workspaces'),
  readablePaths: [],
  gatewayEnv: { PATH }
})
if (box.launcher === undefined) throw new Error(`there are no boxes to measure: ${box.problem}`)
const boxes = await openPool(boxData, box.launcher)

const rounds: Record<'fresh' | 'first' | 'again' | 'boxFirst' | 'boxAgain', Start>[] = []
for (let n = 0; n <= ROUNDS; n++) {
  // The order changes from round to round, so that a machine that slows down or speeds up favours nobody.
  const early = n % 2 === 0 ? await startDefault(n) : undefined
  const startBoxes = async () => ({
    boxFirst: await startOurs(boxes, `user-${n}`),
    boxAgain: await startOurs(boxes, `user-${n}`)
  })
  const earlyBoxes = n % 2 === 0 ? await startBoxes() : undefined
  const first = await startOurs(pool, `user-${n}`)
  const again = await startOurs(pool, `user-${n}`)
  const inBoxes = earlyBoxes ?? (await startBoxes())
  const fresh = early ?? (await startDefault(n))
  // Somebody who arrives while the copy ahead is being made waits for a copy of his own; that is not measured here.
  await Promise.all([pool.warmUp(), boxes.warmUp()])
  // The first round only fills the page cache.
  if (n > 0) rounds.push({ fresh, first, again, ...inBoxes })
}
await Promise.all([pool.close(), boxes.close()])

for (const [name, label] of [
  ['fresh', 'default fresh start      '],
  ['first', 'ours, new user           '],
  ['again', 'ours, returning user     '],
  ['boxFirst', 'boxed, new user          '],
  ['boxAgain', 'boxed, returning user    ']
] as const) {
  const initialized = rounds.map((round) => round[name].initializedMs)
  const ready = rounds.map((round) => round[name].readyMs)
  console.log(`${label}: initialized after ${spread(initialized)} ms, thread ready after ${spread(ready)} ms`)
}
judge(
  'thread ready, returning user / default',
  rounds.map(({ fresh, again }) => again.readyMs / fresh.readyMs),
  { atMost: GOAL }
)
judge(
  'thread ready, new user / default',
  rounds.map(({ fresh, first }) => first.readyMs / fresh.readyMs),
  { atMost: GOAL }
)
judge(
  'thread ready, new user, in a box / without',
  rounds.map(({ first, boxFirst }) => boxFirst.readyMs / first.readyMs),
  { atMost: BOX_GOAL }
)
judge(
  'thread ready, returning user, in a box / without',
  rounds.map(({ again, boxAgain }) => boxAgain.readyMs / again.readyMs),
  { atMost: BOX_GOAL }
)
process.exit()
