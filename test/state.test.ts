import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { StoredThread } from '../src/session/session-state.ts'
import { LmdbDocumentStore } from '../src/stores/lmdb-document-store.ts'
import { redisMissing, startRedis } from './stores/redis-server.ts'
import { scratchDirectory, startGateway } from './support/gateway.ts'
import { callApi, type GatewayProcess, startGatewayProcess } from './support/gateway-process.ts'
import { eventually, signalCodex, untilGone } from './support/processes.ts'
import { type Received, TestClient } from './support/ws-client.ts'

t.setTimeout(240_000)

/** Text that the demo model streams for longer than any test looks. */
const ENDLESS = 'flood:1000000'
const BOGUS_POSITION = 'epoch=none&since=0'

t.test('a gateway that is killed leaves threads, rules and a record of what was cut off: embedded store', (t) =>
  killAndComeBack(t, {})
)

t.test('the same with Redis', { skip: redisMissing }, async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  await killAndComeBack(t, { REDIS_URL: redis.url })
})

async function killAndComeBack(t: Test, variables: Record<string, string>): Promise<void> {
  const dataDir = await scratchDirectory(t)
  const first = await startGatewayProcess(t, { ...variables, DATA_DIR: dataDir })
  const before = await connect(t, first)

  const ruled = await before.startTurn('escalate: touch ruled.txt')
  const { payload: asked } = await before.waitFor('approval/request')
  const resolved = await before.call('approval/respond', { approvalId: asked.approvalId, decision: 'acceptForSession' })
  t.match(resolved, { decision: 'acceptForSession', ruleId: /^srule_/ })
  await before.waitForTurnEnd(ruled.turnId)
  await before.call('thread/name/set', { threadId: ruled.threadId, name: 'The ruled one' })
  await before.waitForEvent('thread/name/updated')

  const waiting = await before.startTurn('escalate: touch waiting.txt')
  const { payload: pending } = await before.waitFor('approval/request', (one) => one.threadId === waiting.threadId)
  const streaming = await before.startTurn(ENDLESS)
  await before.waitForEvent('item/agentMessage/delta', (params) => params.threadId === streaming.threadId)
  const { threadId: emptyId } = await before.call('thread/start', {})
  await kill(first, dataDir)

  const second = await startGatewayProcess(t, { ...variables, DATA_DIR: dataDir })
  await t.test('what waited ends on record, before its user is back', async (t) => {
    const record = await eventually('the approval is on record', 10_000, async () => {
      const { records } = await callApi(second, '/api/audit?type=approval')
      return records.find(({ approvalId }: { approvalId: string }) => approvalId === pending.approvalId)
    })
    t.match(record, { outcome: 'orphaned', decision: null, actor: { kind: 'shutdown' }, command: pending.command })
    t.strictSame((await callApi(second, '/api/approvals')).approvals, [])
  })

  const after = await connect(t, second, BOGUS_POSITION)
  await t.test('a client that lost everything gets threads, titles and how their turns ended', async (t) => {
    const { payload: snapshot } = await after.waitFor('session/snapshot')
    t.strictSame(snapshot.pendingApprovals, [])
    const status = 'notLoaded'
    const interrupted = ({ turnId }: { turnId: string }) => ({ turnId, status: 'interrupted' })
    t.strictSame(sortById(snapshot.threads), [
      {
        threadId: ruled.threadId,
        title: 'The ruled one',
        status,
        lastTurn: { turnId: ruled.turnId, status: 'completed' }
      },
      { threadId: waiting.threadId, title: 'escalate: touch waiting.txt', status, lastTurn: interrupted(waiting) },
      { threadId: streaming.threadId, title: ENDLESS, status, lastTurn: interrupted(streaming) },
      { threadId: emptyId, title: null, status }
    ])
  })

  await t.test('a client with its old position hears the end of each turn and approval, once', async (t) => {
    const { epoch } = before.ready.payload
    const back = await connect(t, second, `epoch=${epoch}&since=${before.seqs.at(-1)}`)
    for (const { turnId } of [waiting, streaming]) {
      const end = await back.waitForTurnEnd(turnId)
      t.match(end.payload.params.turn, { status: 'interrupted', error: null })
    }
    const outcome = { approvalId: pending.approvalId, outcome: 'orphaned', decision: null, by: { kind: 'shutdown' } }
    t.strictSame((await back.waitFor('approval/resolved')).payload, outcome)
    const ends = back.received.filter(({ payload }) => payload?.method === 'turn/completed')
    t.equal(ends.length, 2)
    t.equal(back.received.filter(({ type }) => type === 'approval/resolved').length, 1)
  })

  await t.test('the rule still accepts, and the thread without a turn takes one', async (t) => {
    t.match((await callApi(second, '/api/session-rules')).rules, [
      { ruleId: resolved.ruleId, threadId: ruled.threadId }
    ])
    const again = await after.startTurn('escalate: touch ruled.txt', ruled.threadId)
    const { payload } = await after.waitFor('approval/resolved', ({ by }) => by.kind === 'rule')
    t.match(payload.by, { kind: 'rule', rule: resolved.ruleId })
    await after.waitForTurnEnd(again.turnId)
    const { turnId } = await after.startTurn('hello', emptyId)
    t.match((await after.waitForTurnEnd(turnId)).payload.params.turn, { status: 'completed' })
  })

  await t.test('a rule that was revoked does not come back', async (t) => {
    await callApi(second, `/api/session-rules/${resolved.ruleId}`, 'DELETE')
    await kill(second, dataDir)
    const third = await startGatewayProcess(t, { ...variables, DATA_DIR: dataDir })
    t.strictSame((await callApi(third, '/api/session-rules')).rules, [])
    const { records } = await callApi(third, '/api/audit?type=approval&outcome=orphaned')
    t.equal(records.length, 1, 'nothing is orphaned a second time')
  })
}

t.test('a codex that is killed: the turn ends for everybody, in codex’s own shape', async (t) => {
  const { address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn(ENDLESS)
  await client.waitForEvent('item/agentMessage/delta')
  await client.call('turn/interrupt', { threadId, turnId })
  const { payload: own } = await client.waitForTurnEnd(turnId)

  const killed = await client.startTurn(ENDLESS, threadId)
  await client.waitForEvent('item/agentMessage/delta', (params) => params.turnId === killed.turnId)
  await signalCodex(dataDir, 'SIGKILL')
  const { payload: ours } = await client.waitForTurnEnd(killed.turnId)
  t.strictSame(shapeOf(ours), shapeOf(own))
  const { startedAt, completedAt, durationMs } = ours.params.turn
  const expected = { ...own.params.turn, id: killed.turnId, rootTurnId: killed.turnId }
  t.strictSame(
    ours.params.turn,
    { ...expected, startedAt, completedAt, durationMs },
    'all but the times as codex says it'
  )
  t.ok(completedAt >= startedAt && durationMs >= 0)

  await t.test('and codex’s own history says the same', async (t) => {
    const { data } = await client.call('thread/turns/list', { threadId, itemsView: 'notLoaded' })
    const statuses = data.map(({ id, status }: { id: string; status: string }) => [id, status])
    t.strictSame(
      statuses.sort(),
      [
        [turnId, 'interrupted'],
        [killed.turnId, 'interrupted']
      ].sort()
    )
  })
})

t.test('a turn that codex brought to its end, and the killed gateway did not see end, has codex’s end', async (t) => {
  const first = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${first.address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn('hello')
  const { payload: own } = await client.waitForTurnEnd(turnId)
  const read = async () => (await first.app.documents.get('threads', `alice/${threadId}`)) as StoredThread
  await eventually('its end is stored', 10_000, async () => (await read()).lastTurn?.status === 'completed')
  const { lastTurn: _lastTurn, ...kept } = await read()
  await first.close()

  const { startedAt } = own.params.turn
  const documents = await LmdbDocumentStore.open(join(first.dataDir, 'documents'))
  const turn = { turnId, rootTurnId: turnId, startedAt, startedAtMs: startedAt * 1000 }
  await documents.put('threads', `alice/${threadId}`, { ...kept, turn })
  await documents.close()

  const { app, address } = await startGateway(t, { DATA_DIR: first.dataDir })
  const back = await TestClient.connect(t, `ws://${address}/ws?userId=alice&${BOGUS_POSITION}`)
  const { payload: snapshot } = await back.waitFor('session/snapshot')
  t.match(snapshot.threads, [{ threadId, lastTurn: { turnId, status: 'completed' } }])
  const { epoch, seq } = client.ready.payload
  const again = await TestClient.connect(t, `ws://${address}/ws?userId=alice&epoch=${epoch}&since=${seq}`)
  await again.waitFor('event', () => again.seqs.at(-1) === back.ready.payload.seq)
  const ends = again.received.filter(({ payload }) => payload?.method === 'turn/completed')
  t.strictSame(ends.at(-1)?.payload.params, own.params, 'told as codex told it')
  const stored = async () => (await app.documents.get('threads', `alice/${threadId}`)) as StoredThread
  // What the clients hear does not wait for what is written behind it.
  await eventually('its end is stored', 10_000, async () => (await stored()).lastTurn?.status === 'completed')
  t.equal((await stored()).turn, undefined)
})

t.test('an approval whose end was on record when the gateway was killed keeps that end', async (t) => {
  const first = await startGateway(t)
  const { dataDir } = first
  const client = await TestClient.connect(t, `ws://${first.address}/ws?userId=alice`)
  const { turnId } = await client.startTurn('escalate: touch recorded.txt')
  const { payload: approval } = await client.waitFor('approval/request')
  const { approvalId } = approval
  const kept = (await first.app.documents.list('pending-approvals')).find(({ id }) => id === `alice/${approvalId}`)
  t.ok(kept, 'it is in the store while it waits')
  await client.call('approval/respond', { approvalId, decision: 'decline' })
  await client.waitForTurnEnd(turnId)
  t.strictSame(await first.app.documents.list('pending-approvals'), [], 'and not after it ended')
  await first.close()

  const documents = await LmdbDocumentStore.open(join(dataDir, 'documents'))
  await documents.put('pending-approvals', `alice/${approvalId}`, kept?.value ?? null)
  await documents.put('pending-approvals', 'bob/appr_unreadable', { approval: 'nonsense' })
  await documents.close()

  const { app, address } = await startGateway(t, { DATA_DIR: dataDir })
  await eventually('it is forgotten', 10_000, async () => {
    return !(await app.documents.list('pending-approvals', 'alice/')).length
  })
  const { epoch, seq } = client.ready.payload
  const back = await TestClient.connect(t, `ws://${address}/ws?userId=alice&epoch=${epoch}&since=${seq}`)
  await back.waitFor('session/state', ({ state }) => state === 'ready')
  const told = back.received.filter(({ type }) => type === 'approval/resolved').map(({ payload }) => payload)
  const end = { approvalId, outcome: 'declined', decision: 'decline', by: { kind: 'user', id: 'alice' } }
  t.match(told.at(-1), end)
  const { records } = (await app.inject('/api/audit?userId=alice&type=approval')).json()
  t.match(records, [{ approvalId, outcome: 'declined' }])
  t.equal(records.length, 1)
})

t.test('with the store away nothing is acknowledged that would be lost', { skip: redisMissing }, async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.stop())
  const { app, address } = await startGateway(t, { REDIS_URL: redis.url })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const ask = async (command: string, threadId?: string) => {
    const turn = await client.startTurn(`escalate: ${command}`, threadId)
    const { payload } = await client.waitFor('approval/request', ({ turnId }) => turnId === turn.turnId)
    return { ...turn, approvalId: payload.approvalId as string }
  }
  const one = await ask('touch one.txt')
  const { ruleId } = await client.call('approval/respond', { approvalId: one.approvalId, decision: 'acceptForSession' })
  await client.waitForTurnEnd(one.turnId)
  const { threadId: spareId } = await client.call('thread/start', {})
  await redis.stop()

  const refused = await client.request('thread/start', {})
  t.match(refused, { type: 'error', payload: { code: 'CC_STORE_UNAVAILABLE' } })

  const two = await ask('touch two.txt', one.threadId)
  t.pass('an approval is put before the clients all the same')
  const answer = await client.call('approval/respond', { approvalId: two.approvalId, decision: 'acceptForSession' })
  t.match(answer, { outcome: 'accepted', decision: 'accept', ruleError: { code: 'CC_STORE_UNAVAILABLE' } })
  t.notOk(answer.ruleId)
  await client.waitForTurnEnd(two.turnId)

  const revoked = await app.inject({ method: 'DELETE', url: `/api/session-rules/${ruleId}?userId=alice` })
  t.equal(revoked.json().error.code, 'CC_STORE_UNAVAILABLE')
  const again = await ask('touch one.txt', one.threadId)
  t.pass('a rule whose revocation failed accepts nothing any more')
  await client.call('approval/respond', { approvalId: again.approvalId, decision: 'decline' })
  await client.waitForTurnEnd(again.turnId)

  const three = await ask('touch three.txt', spareId)
  const back = await startRedis({ port: redis.port })
  t.teardown(() => back.stop())
  await eventually('the approval is stored', 15_000, async () => {
    const found = await app.documents.list('pending-approvals').catch(() => [])
    return found.some(({ id }) => id === `alice/${three.approvalId}`)
  })
  const revokedNow = await app.inject({ method: 'DELETE', url: `/api/session-rules/${ruleId}?userId=alice` })
  t.equal(revokedNow.statusCode, 200)
  t.match(await client.call('thread/start', {}), { threadId: String })
})

function connect(t: Test, gateway: GatewayProcess, position?: string): Promise<TestClient> {
  const from = position === undefined ? '' : `&${position}`
  return TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice${from}`)
}

async function kill(gateway: GatewayProcess, dataDir: string): Promise<void> {
  gateway.child.kill('SIGKILL')
  await gateway.exited
  await untilGone(dataDir, 10_000)
}

function sortById(threads: { threadId: string }[]): { threadId: string }[] {
  return [...threads].sort((a, b) => (a.threadId < b.threadId ? -1 : 1))
}

/** Names and types, all the way down. */
function shapeOf(value: Received['payload']): unknown {
  if (Array.isArray(value)) return value.map(shapeOf)
  if (value === null || typeof value !== 'object') return value === null ? 'null' : typeof value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shapeOf(inner)]))
}
