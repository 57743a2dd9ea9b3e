import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startGateway } from './support/gateway.ts'
import { runServer } from './support/gateway-process.ts'
import { codexProcessesOf, eventually, processesOf, signalCodex, untilGone } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

const LOOP = { code: 'CC_CRASH_LOOP', details: { retryAfter: 60 } }

t.test('a codex that is killed again and again is started again, then later, then reported', async (t) => {
  const { app, address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn('hello')
  await client.waitForTurnEnd(turnId)
  const states = () => client.received.filter(({ type }) => type === 'session/state').map(({ payload }) => payload)

  for (let kill = 1; kill <= 5; kill++) {
    const again = await client.startTurn(`hello ${kill}`, threadId)
    await client.waitForTurnEnd(again.turnId)
    await signalCodex(dataDir, 'SIGKILL')
    await eventually(
      `crash ${kill} is told`,
      5_000,
      () => states().filter(({ state }) => state === 'crashed').length === kill
    )
  }
  const { payload } = await client.waitFor('session/state', ({ state }) => state === 'failed')
  t.match(payload.reason, /again and again within 2 minutes; the next try is in 60 s\. Last: codex ended \(SIGKILL\)/)
  for (let n = 0; n < 3; n++) t.match((await client.request('thread/list', {})).payload, LOOP)
  const rest = await app.inject({ url: '/api/threads', headers: { 'x-user-id': 'alice' } })
  t.equal(rest.statusCode, 503)
  t.match(rest.headers['retry-after'], /^(59|60)$/)
  t.match(rest.json(), { error: { code: 'CC_CRASH_LOOP' } })
  t.equal(states().filter(({ state }) => state === 'failed').length, 1, 'reported once')
  t.strictSame(await codexProcessesOf(dataDir), [])

  const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
  t.ok(await bob.call('thread/list', {}), 'nobody else is concerned')
})

t.test(
  'a codex that does not start is tried five times, and what it said last is told without its secrets',
  async (t) => {
    const { app, address } = await startGateway(t, { CODEX_BIN: 'test/support/fake-codex-failing.sh' })
    const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
    await client.waitFor('session/state', ({ state }) => state === 'failed')
    for (let start = 2; start <= 5; start++) {
      t.match((await client.request('thread/list', {})).payload, { code: 'CC_PROCESS_START_FAILED' })
    }
    await client.waitFor('session/state', ({ reason }) =>
      /again and again.*a fatal error of the fake codex/.test(reason)
    )
    t.match((await client.request('thread/list', {})).payload, { ...LOOP, message: /a fatal error of the fake codex/ })
    t.notMatch(JSON.stringify(client.received), 'hunter2')
    const startsFile = join(app.sessions.find('alice')?.directories.workspace ?? '', 'starts')
    t.equal((await readFile(startsFile, 'utf8')).trim().split('\n').length, 5)
  }
)

t.test('the reason of a crash is its last line on stderr, redacted', async (t) => {
  const { address } = await startGateway(t, { CODEX_BIN: 'test/support/fake-codex-dying.sh' })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await client.waitFor('session/state', ({ state }) => state === 'ready')
  t.match((await client.request('thread/list', {})).payload, { code: 'CC_PROCESS_EXITED' })
  const { payload } = await client.waitFor('session/state', ({ state }) => state === 'crashed')
  t.match(payload.reason, /^codex ended \(code 7: thread panicked, api_key=\[REDACTED\]\); the next request/)
  t.notMatch(JSON.stringify(client.received), '0123456789abcdef')
})

t.test('what a killed codex leaves behind is ended, and the next codex is not', async (t) => {
  const { address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { turnId, threadId } = await client.startTurn(
    'escalate: (nohup setsid sleep 1021 >/dev/null 2>&1 &); echo done'
  )
  const { payload } = await client.waitFor('approval/request')
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
  await client.waitForTurnEnd(turnId)
  const sleepers = async () => (await processesOf(dataDir)).filter(({ command }) => command === 'sleep 1021').length
  t.equal(await sleepers(), 1)

  await signalCodex(dataDir, 'SIGKILL')
  await client.waitFor('session/state', ({ state }) => state === 'crashed')
  const next = await client.startTurn('hello', threadId)
  await client.waitForTurnEnd(next.turnId)
  await eventually('the daemon is gone', 5_000, async () => (await sleepers()) === 0)
  t.equal((await codexProcessesOf(dataDir)).length, 1)
  t.ok(await client.call('thread/list', {}))
})

t.test('a close right after a crash waits for what the crash left behind', async (t) => {
  const { address, dataDir, close } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await client.waitFor('session/state', ({ state }) => state === 'ready')
  await signalCodex(dataDir, 'SIGKILL')
  await client.waitFor('session/state', ({ state }) => state === 'crashed')
  const startMs = performance.now()
  await close()
  t.ok(performance.now() - startMs < 4_000)
  await untilGone(dataDir, 500)
})

t.test('directories that cannot be made end the start with a clear error', async (t) => {
  for (const name of ['DATA_DIR', 'WORKSPACE_ROOT']) {
    const { code, output } = await runServer(t, { [name]: '/proc/no/such' })
    t.equal(code, 1)
    t.match(output, new RegExp(`^cloud-codex: CC_CONFIG_INVALID: Configuration: ${name} cannot be made: ENOENT`, 'm'))
  }
})
