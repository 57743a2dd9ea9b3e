import t, { type Test } from 'tap'
import { type GatewayProcess, startGatewayProcess } from './support/gateway-process.ts'
import { type Hostility, makeHostility } from './support/hostile-frames.ts'
import { NativeClient } from './support/native-client.ts'
import { readMemory } from './support/process-memory.ts'
import { codexProcessesOf, eventually } from './support/processes.ts'
import { RandomNumbers } from './support/random-numbers.ts'
import { encodeRawFrame, RawWebSocket, textFrame } from './support/raw-web-socket.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const isFull = process.env.FULL === '1'
const FRAMES = isFull ? 10_000 : 1_000
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000)
const MAX_FRAMES_A_CONNECTION = 20
const CONNECTIONS_AT_ONCE = 6
const ANSWER_TIMEOUT_MS = 30_000
/** What may stay of live objects: caches and tables that are filled once. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024
/** V8 and the allocator give pages back in their own time. */
const MAX_GROWN_BYTES = 64 * 1024 * 1024
/** Of a close frame with a code: final, opcode 8, and no more than 125 bytes. */
const CLOSE_HEAD = Buffer.from([0x88])
const SECRET = 'only-bob-knows-this'
const HANDSHAKE = textFrame(
  '{"id":"i","method":"initialize","params":{"clientInfo":{"name":"x","title":null,"version":"0"},"capabilities":{"experimentalApi":true}}}'
)
const PATHS = ['/', '/ws'] as const
const COLLECT = new URL('support/collect-on-signal.mjs', import.meta.url).href

t.test(`${FRAMES} hostile frames disturb nobody, SEED=${SEED}`, { timeout: isFull ? 900_000 : 180_000 }, async (t) => {
  const gateway = await startGatewayProcess(t, {
    JWT_SECRET: TEST_SECRET,
    LOG_LEVEL: 'info',
    // Threads that a hostile frame has made say something, too; what is kept of it is not what is looked for.
    JOURNAL_MAX_EVENTS: '1000',
    JOURNAL_MAX_BYTES: '1048576',
    NODE_OPTIONS: `--import=${COLLECT}`
  })
  const bob = await listen(t, gateway)
  const headers = await bearer('mallory')
  const codexOfBob = (await codexProcessesOf(gateway.dataDir)).map(({ pid }) => pid)

  // The same before and after: what a first hundred frames make, a compiled check or a cache, is no leak.
  const warmUp = new RandomNumbers(SEED + 1)
  await attack(t, gateway, headers, warmUp, 100)
  const [heardBefore, liveBefore] = [bob.heard(), await liveBytes(gateway)]
  const before = readMemory(gateway.child.pid as number)

  const kinds = await attack(t, gateway, headers, new RandomNumbers(SEED), FRAMES)
  for (const [kind, count] of [...kinds].sort()) t.comment(`${kind}: ${count}`)

  t.equal(gateway.child.exitCode, null, 'the process lives')
  t.equal((await fetch(`http://${gateway.address}/health`)).status, 200)
  const troubles = gateway.output().split('\n').filter(isTrouble)
  t.strictSame(troubles, [], 'nothing that the log calls an error')
  t.strictSame(bob.heard(), heardBefore, 'the other client has heard nothing')
  const codexNow = (await codexProcessesOf(gateway.dataDir)).map(({ pid }) => pid)
  t.ok(
    codexOfBob.every((pid) => codexNow.includes(pid)),
    'the other user’s codex runs as before'
  )
  await bob.works(t)
  await works(t, gateway, headers)

  const kept = await eventually('memory comes back', 60_000, async () => {
    const live = (await liveBytes(gateway)) - liveBefore
    const own = readMemory(gateway.child.pid as number).anonBytes - before.anonBytes
    return live <= MAX_KEPT_BYTES && own <= MAX_GROWN_BYTES ? { live, own } : undefined
  })
  t.comment(`after the first hundred: live objects ${mib(kept?.live ?? 0)}, private memory ${mib(kept?.own ?? 0)} more`)
})

/** Somebody who minds his own business on both doors meanwhile. */
async function listen(t: Test, gateway: GatewayProcess) {
  const headers = await bearer('bob')
  const own = await TestClient.connect(t, `ws://${gateway.address}/ws`, { headers })
  const native = await NativeClient.connect(t, `ws://${gateway.address}/`, { headers })
  const { threadId, turnId } = await own.startTurn(SECRET)
  await own.waitForTurnEnd(turnId)
  await native.call('thread/resume', { threadId, excludeTurns: true })
  return {
    heard: () => ({ own: own.received.length, native: native.received.length }),
    async works(t: Test) {
      const { thread } = await native.call('thread/read', { threadId })
      t.equal(thread.preview, SECRET)
      const next = await own.startTurn('still here', threadId)
      await own.waitForTurnEnd(next.turnId)
      await native.notified('turn/completed', ({ turn }) => turn.id === next.turnId)
    }
  }
}

/** Sends so many hostile things over connections to both doors. Returns how many of each kind. */
async function attack(
  t: Test,
  gateway: GatewayProcess,
  headers: Record<string, string>,
  random: RandomNumbers,
  frames: number
): Promise<Map<string, number>> {
  const kinds = new Map<string, number>()
  let left = frames
  const worker = async () => {
    while (left > 0) {
      const things = makeThings(random, Math.min(left, MAX_FRAMES_A_CONNECTION))
      left -= things.length
      for (const { kind } of things) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
      const path = random.pick(PATHS)
      // Behind the handshake there is more that can go wrong.
      if (path === '/' && random.below(3) > 0) things.unshift({ kind: 'a handshake', bytes: HANDSHAKE })
      const answers = await oneConnection(gateway.address, path, headers, things)
      if (answers.includes(SECRET)) t.fail(`another user's words came over ${path}`)
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS_AT_ONCE }, worker))
  return kinds
}

/** For one connection: up to so many, and nothing behind what ends it. */
function makeThings(random: RandomNumbers, most: number): Hostility[] {
  const things: Hostility[] = []
  do things.push(makeHostility(random))
  while (things.length < most && things.at(-1)?.isLast === undefined)
  return things
}

/** Writes it all; then the connection must be closed, or answer a ping. Returns what came. */
async function oneConnection(
  address: string,
  path: string,
  headers: Record<string, string>,
  things: readonly Hostility[]
): Promise<Buffer> {
  const raw = await RawWebSocket.open(address, path, headers, ANSWER_TIMEOUT_MS)
  for (const { bytes } of things) await raw.write(bytes)
  const last = things.at(-1)
  if (last?.isLast !== 'unfinished') {
    const sign = Buffer.from(`sign-of-life-${Math.floor(performance.now())}`)
    await raw.write(encodeRawFrame({ opcode: 9, payload: sign }))
    const expected = last?.isLast === 'closes' ? CLOSE_HEAD : sign
    await raw.until(expected, ANSWER_TIMEOUT_MS).catch((error: Error) => {
      throw new Error(`${error.message} on ${path} after: ${things.map(({ kind }) => kind).join(', ')}`)
    })
  }
  await raw.end()
  return raw.received
}

/** A sane client of the user who did all that finds everything in order. */
async function works(t: Test, gateway: GatewayProcess, headers: Record<string, string>): Promise<void> {
  const own = await TestClient.connect(t, `ws://${gateway.address}/ws`, { headers })
  const { turnId } = await own.startTurn('hello')
  t.equal((await own.waitForTurnEnd(turnId)).payload.params.turn.status, 'completed')
  const native = await NativeClient.connect(t, `ws://${gateway.address}/`, { headers })
  const { thread } = await native.call('thread/start', {})
  const { turn } = await native.call('turn/start', { threadId: thread.id, input: [{ type: 'text', text: 'hello' }] })
  await native.notified('turn/completed', (params) => params.turn.id === turn.id)
  await own.close()
  native.socket.close()
}

/** An error in the log, or what Node says by itself when something is amiss. */
function isTrouble(line: string): boolean {
  return line.startsWith('{') ? /"level":[56]0/.test(line) : /unhandled|uncaught|error|warning/i.test(line)
}

let collections = 0

/** The gateway's live objects, after a collection. */
async function liveBytes({ child, output }: GatewayProcess): Promise<number> {
  const line = new RegExp(`live objects ${++collections}: (\\d+) bytes`)
  child.kill('SIGWINCH')
  return Number((await eventually('a collection', 20_000, () => line.exec(output())))?.[1])
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
