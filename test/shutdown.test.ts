import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { startGateway, type Teardown } from './support/gateway.ts'
import { startGatewayProcess } from './support/gateway-process.ts'
import { codexProcessesOf, eventually, processesOf, signalCodex, untilGone } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

/** What the service promises for SIGTERM, and this machine's slowness. */
const SHUTDOWN_BOUND_MS = 5_000

t.test('a gateway that is killed during a turn leaves no codex process and no command behind', async (t) => {
  const { child, address, dataDir } = await startGatewayProcess(t, { LOG_LEVEL: 'info' })
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await alice.startTurn('run: sleep 1001')
  const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
  await bob.startTurn('escalate: (nohup setsid sleep 1002 >/dev/null 2>&1 &) ; sleep 1003')
  const { payload } = await bob.waitFor('approval/request')
  await bob.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
  for (const command of ['sleep 1001', 'sleep 1002', 'sleep 1003']) {
    await eventually(`${command} runs`, 20_000, async () =>
      (await processesOf(dataDir)).some((found) => found.command === command)
    )
  }

  child.kill('SIGKILL')
  const ms = await untilGone(dataDir, SHUTDOWN_BOUND_MS)
  t.ok(ms < SHUTDOWN_BOUND_MS, `all gone after ${ms} ms`)
})

t.test('SIGTERM during a turn: clients hear 1001, the processes are gone, the exit code is 0', async (t) => {
  const { child, address, dataDir, exited } = await startGatewayProcess(t)
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const second = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const silent = await silentSocket(t, address, '/ws?userId=alice')
  const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
  await alice.startTurn('run: sleep 1004')
  await bob.startTurn('escalate: touch never.txt')
  await bob.waitFor('approval/request')
  await eventually('the command runs', 20_000, async () =>
    (await processesOf(dataDir)).some(({ command }) => command === 'sleep 1004')
  )

  const startMs = Date.now()
  child.kill('SIGTERM')
  const closes = await Promise.all([alice, second, bob].map(({ socket }) => once(socket, 'close')))
  const { code, signal } = await exited
  t.match({ code, signal }, { code: 0, signal: null })
  t.ok(Date.now() - startMs < SHUTDOWN_BOUND_MS, `exit after ${Date.now() - startMs} ms`)
  for (const [closeCode, reason] of closes) {
    t.equal(closeCode, 1001)
    t.match(String(reason), /^the service is shutting down; retryAfter=[\d.]+$/)
  }
  t.match(bob.received.find(({ type }) => type === 'approval/resolved')?.payload, {
    outcome: 'orphaned',
    decision: null,
    by: { kind: 'shutdown' }
  })
  await eventually('the silent socket ends', 1_000, () => silent.destroyed)
  await untilGone(dataDir, 1_000)
})

t.test('a second SIGTERM ends the gateway at once, and still nothing is left behind', async (t) => {
  const { child, address, dataDir, exited } = await startGatewayProcess(t)
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await alice.call('thread/start', {})
  await signalCodex(dataDir, 'SIGSTOP')

  child.kill('SIGTERM')
  await alice.waitFor('session/state', ({ state }) => state === 'closing')
  const startMs = Date.now()
  child.kill('SIGTERM')
  const { code } = await exited
  t.ok(Date.now() - startMs < 1_000, `exit after ${Date.now() - startMs} ms`)
  t.equal(code, 1)
  await untilGone(dataDir, SHUTDOWN_BOUND_MS)
})

t.test(
  'app.close() is bounded: a frozen codex, a client that reads nothing, half a request, open approvals',
  async (t) => {
    const { app, address, dataDir, close } = await startGateway(t)
    const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
    await alice.startTurn('escalate: touch never.txt')
    const { payload } = await alice.waitFor('approval/request')

    const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
    const deaf = await silentSocket(t, address, '/ws?userId=bob')
    deaf.pause()
    await bob.waitForTurnEnd((await bob.startTurn('flood: 20000')).turnId)
    t.equal(await signalCodex(dataDir, 'SIGSTOP'), 2)
    const waiting = bob.request('model/list', {})

    for (const piece of [
      'GET /health HTTP/1.1\r\nho',
      `POST /api/threads HTTP/1.1\r\nhost: ${address}\r\nx-user-id: carol\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`
    ]) {
      const half = connect(Number(address.split(':')[1]), '127.0.0.1')
      half.on('error', () => {})
      t.teardown(() => half.destroy())
      half.write(piece)
    }
    const rest = app.inject({ url: '/api/threads', headers: { 'x-user-id': 'alice' } })

    const startMs = Date.now()
    await close()
    const ms = Date.now() - startMs
    t.ok(ms < 6_000, `closed after ${ms} ms`)
    t.match((await waiting).payload, { code: /^CC_(PROCESS_EXITED|SHUTTING_DOWN)$/ })
    t.match((await rest).json().error, { code: /^CC_(PROCESS_EXITED|SHUTTING_DOWN)$/ })
    t.match(alice.received.find(({ type }) => type === 'approval/resolved')?.payload, {
      approvalId: payload.approvalId,
      outcome: 'orphaned',
      by: { kind: 'shutdown' }
    })
    const again = await startGateway(t, { DATA_DIR: dataDir })
    const { records } = (await again.app.inject('/api/audit?userId=alice')).json()
    t.match(records, [{ approvalId: payload.approvalId, outcome: 'orphaned', actor: { kind: 'shutdown' } }])
    await untilGone(dataDir, 1_000)
  }
)

t.test('app.close() does not wait for a codex that never answers its handshake', async (t) => {
  const { address, close, dataDir } = await startGateway(t, { CODEX_BIN: 'test/support/fake-codex-silent.sh' })
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await eventually('the start is under way', 10_000, async () => (await codexProcessesOf(dataDir)).length > 0)
  const waiting = alice.request('thread/start', {})

  const startMs = Date.now()
  await close()
  t.ok(Date.now() - startMs < 4_000, `closed after ${Date.now() - startMs} ms`)
  t.match((await waiting).payload, { code: /^CC_(PROCESS_START_FAILED|SHUTTING_DOWN)$/ })
  await untilGone(dataDir, 1_000)
})

/** A WebSocket client that says nothing after its upgrade: no pong, no close frame. */
async function silentSocket(t: Teardown, address: string, path: string): Promise<Socket> {
  const [host = '', port] = address.split(':')
  const socket = connect(Number(port), host)
  socket.on('error', () => {})
  t.teardown(() => socket.destroy())
  socket.write(
    [
      `GET ${path} HTTP/1.1`,
      `host: ${address}`,
      'connection: upgrade',
      'upgrade: websocket',
      'sec-websocket-version: 13',
      'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
      '\r\n'
    ].join('\r\n')
  )
  const [data] = (await once(socket, 'data')) as [Buffer]
  if (!String(data).startsWith('HTTP/1.1 101')) throw new Error(`no upgrade: ${data}`)
  return socket.resume()
}
