import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startGateway } from './support/gateway.ts'
import { TestClient } from './support/ws-client.ts'

t.test('a read-only command is accepted by policy, without asking, and is on record', async (t) => {
  const { app, address } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)

  const { threadId, turnId } = await client.startTurn('escalate: ls -la')
  const resolved = await client.waitFor('approval/resolved')
  await client.waitForTurnEnd(turnId)

  t.match(resolved.payload, { outcome: 'accepted', decision: 'accept', by: { kind: 'policy' } })
  t.notOk(client.received.some(({ type }) => type === 'approval/request'))
  const { records } = (await app.inject('/api/audit?userId=alice')).json()
  t.match(records, [{ threadId, kind: 'command', argv: ['ls', '-la'], outcome: 'accepted', actor: { kind: 'policy' } }])
})

t.test('a command that writes asks: accepted it runs, declined it does not', async (t) => {
  const { app, address } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)

  const { threadId, turnId } = await client.startTurn('escalate: touch accepted.txt')
  const request = await client.waitFor('approval/request')
  t.match(request.payload, {
    kind: 'command',
    threadId,
    turnId,
    command: "/bin/bash -lc 'touch accepted.txt'",
    decisions: ['accept', 'acceptForSession', 'decline', 'cancel']
  })
  t.ok(Date.parse(request.payload.expiresAt) > Date.now() + 290_000, 'expires in five minutes')
  const answer = await client.call('approval/respond', { approvalId: request.payload.approvalId, decision: 'accept' })
  t.match(answer, { outcome: 'accepted', by: { kind: 'user', id: 'alice' } })
  await client.waitForTurnEnd(turnId)
  await readFile(join(request.payload.cwd, 'accepted.txt'))

  const second = await client.startTurn('escalate: touch declined.txt', threadId)
  const { payload } = await client.waitFor('approval/request', ({ turnId }) => turnId === second.turnId)
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
  await client.waitForTurnEnd(second.turnId)
  await t.rejects(readFile(join(payload.cwd, 'declined.txt')), { code: 'ENOENT' })

  const { records } = (await app.inject('/api/audit?userId=alice')).json()
  t.match(records, [{ outcome: 'declined' }, { outcome: 'accepted', actor: { kind: 'user', id: 'alice' } }])
})
