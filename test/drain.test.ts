import { once } from 'node:events'
import t from 'tap'
import { drawRetryAfterMs } from '../src/session/closing.ts'
import { startGateway } from './support/gateway.ts'
import { startGatewayProcess } from './support/gateway-process.ts'
import { untilGone } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

const isClosing = ({ state }: { state: string }) => state === 'closing'

/** Says as whom to speak to a gateway without auth. */
const as = (userId: string) => ({ headers: { 'x-user-id': userId } })

t.test(
  'SIGTERM with DRAIN_TIMEOUT_MS: what runs may finish, nothing new starts, and clients hear when to return',
  async (t) => {
    const { child, address, dataDir, exited } = await startGatewayProcess(t, { DRAIN_TIMEOUT_MS: '60000' })
    const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
    const { threadId, turnId } = await alice.startTurn('escalate: touch yes.txt')
    const { payload: approval } = await alice.waitFor('approval/request')
    const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
    await bob.waitFor('session/state', ({ state }) => state === 'ready')
    t.equal((await fetch(`http://${address}/ready`)).status, 200)

    const sentMs = Date.now()
    child.kill('SIGTERM')
    const hints = await Promise.all([alice, bob].map((client) => client.waitFor('session/state', isClosing)))
    for (const { payload } of hints) {
      t.match(payload, { state: 'closing', reason: 'the service is shutting down' })
      t.ok(payload.retryAfterMs >= 1_000 && payload.retryAfterMs <= 2_000, `${payload.retryAfterMs} ms`)
    }
    t.equal((await fetch(`http://${address}/ready`)).status, 503)
    t.equal((await fetch(`http://${address}/health`)).status, 200)

    const refused = { type: 'error', payload: { code: 'CC_SHUTTING_DOWN', details: { retryAfter: 2 } } }
    const input = [{ type: 'text', text: 'hello' }]
    const beginnings: [string, object][] = [
      ['thread/start', {}],
      ['turn/start', { threadId, input }],
      ['thread/fork', { threadId }]
    ]
    for (const [type, payload] of beginnings) t.match(await alice.request(type, payload), refused, type)
    const rest = await fetch(`http://${address}/api/threads/${threadId}/turns`, {
      method: 'POST',
      headers: { ...as('alice').headers, 'content-type': 'application/json' },
      body: JSON.stringify({ input })
    })
    t.equal(rest.status, 503)
    t.match(rest.headers.get('retry-after'), /^[12]$/)
    for (const path of ['/api/threads', '/api/approvals']) {
      const { status } = await fetch(`http://${address}${path}`, as('carol'))
      t.ok(status === 503 || path === '/api/approvals', `${path} for a new user: ${status}`)
    }
    await t.rejects(TestClient.connect(t, `ws://${address}/ws?userId=carol`), { message: 'HTTP 503' })

    // The one who must decide has lost the connection meanwhile.
    alice.socket.terminate()
    const { epoch } = alice.ready.payload
    const back = await TestClient.connect(t, `ws://${address}/ws?userId=alice&epoch=${epoch}&since=0`)
    t.match(back.ready.payload.pendingApprovals, [{ approvalId: approval.approvalId }])
    const [alicesHint] = hints
    t.equal((await back.waitFor('session/state', isClosing)).payload.retryAfterMs, alicesHint?.payload.retryAfterMs)
    t.ok(await back.call('thread/read', { threadId }), 'reading is still possible')
    const closes = [back, bob].map(({ socket }) => once(socket, 'close'))
    await back.call('approval/respond', { approvalId: approval.approvalId, decision: 'accept' })
    const { payload } = await back.waitForTurnEnd(turnId)
    t.equal(payload.params.turn.status, 'completed')

    for (const [index, close] of closes.entries()) {
      const [code, reason] = await close
      t.equal(code, 1001)
      const retryAfterMs = hints[index]?.payload.retryAfterMs
      t.equal(String(reason), `the service is shutting down; retryAfter=${retryAfterMs / 1_000}`)
    }
    t.match(await exited, { code: 0, signal: null })
    t.ok(Date.now() - sentMs < 60_000, 'it did not wait longer than it had to')
    await untilGone(dataDir, 1_000)
  }
)

t.test(
  'a drain ends at DRAIN_TIMEOUT_MS, or with a second signal; the close after it is bounded all the same',
  async (t) => {
    for (const [name, timeoutMs, signals] of [
      ['the time is up', 700, ['SIGTERM']],
      ['a second SIGTERM', 60_000, ['SIGTERM', 'SIGTERM']],
      ['SIGINT after SIGTERM', 60_000, ['SIGTERM', 'SIGINT']]
    ] as const) {
      await t.test(name, async (t) => {
        const { child, address, dataDir, exited } = await startGatewayProcess(t, {
          DRAIN_TIMEOUT_MS: String(timeoutMs)
        })
        const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
        await alice.startTurn('escalate: touch never.txt')
        await alice.waitFor('approval/request')
        const closed = once(alice.socket, 'close')
        const startMs = performance.now()
        for (const signal of signals) {
          child.kill(signal)
          await alice.waitFor('session/state', isClosing)
        }
        const { code } = await exited
        const ms = performance.now() - startMs
        t.equal(code, 0)
        t.ok(ms < timeoutMs + 5_000 && (signals.length > 1 || ms >= timeoutMs), `after ${ms} ms`)
        t.equal((await closed)[0], 1001)
        t.match((await alice.waitFor('approval/resolved')).payload, { outcome: 'orphaned', by: { kind: 'shutdown' } })
        await untilGone(dataDir, 1_000)
      })
    }
  }
)

t.test('app.close() in the middle of a drain ends it', async (t) => {
  const { app, address, close } = await startGateway(t)
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await alice.startTurn('escalate: touch never.txt')
  await alice.waitFor('approval/request')
  const draining = app.sessions.drain(60_000)
  await alice.waitFor('session/state', isClosing)
  const startMs = performance.now()
  await close()
  await draining
  t.ok(performance.now() - startMs < 4_000, `after ${performance.now() - startMs} ms`)
})

t.test('the more clients there are, the further apart they are told to come back', async (t) => {
  const range = (clients: number) => [0, 0.999_999].map((random) => drawRetryAfterMs(clients, random))
  t.strictSame(range(0), [1_000, 2_000])
  t.strictSame(range(100), [1_000, 2_000])
  t.strictSame(range(1_000), [1_000, 11_000])
  t.strictSame(range(1_000_000), [1_000, 31_000])
  t.equal(drawRetryAfterMs(1_000, 0.123_456) % 10, 0)
})
