import type { InjectOptions } from 'fastify'
import t, { type Test } from 'tap'
import { type Gateway, startGateway } from './support/gateway.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { type Received, TestClient } from './support/ws-client.ts'

interface Tenant {
  userId: string
  client: TestClient
  threadId: string
  turnId: string
  approvalId: string
  /** Texts that nobody else may ever see. */
  secrets: string[]
}

/** How a caller says who they are. */
type Caller = (userId: string) => Promise<{ query: string; headers: Record<string, string> }>

const byToken: Caller = async (userId) => ({ query: '', headers: await bearer(userId) })
const byWord: Caller = async (userId) => ({ query: `?userId=${userId}`, headers: {} })

for (const [mode, variables, caller] of [
  ['with tokens', { JWT_SECRET: TEST_SECRET }, byToken],
  ['in development mode', {}, byWord]
] as const) {
  t.test(`${mode}, two users at once never meet`, async (t) => {
    const gateway = await startGateway(t, variables)
    const inject = async (userId: string, options: InjectOptions) => {
      const headers = mode === 'with tokens' ? await bearer(userId) : { 'x-user-id': userId }
      return gateway.app.inject({ ...options, headers: { ...headers, ...options.headers } })
    }
    const [alice, bob] = await Promise.all(['alice', 'bob'].map((userId) => moveIn(t, gateway, userId, caller)))
    if (!alice || !bob) throw new Error('unreachable')
    const pairs = [
      [alice, bob],
      [bob, alice]
    ] as const

    await t.test('each hears their own turns, floods and approvals, and not one word of the other’s', async (t) => {
      await Promise.all(
        [alice, bob].map(async ({ client, userId, threadId }) => {
          const { threadId: second } = await client.call('thread/start', {})
          const flood = await client.startTurn('flood: 500', second)
          await client.waitForTurnEnd(flood.turnId)
          await client.call('thread/name/set', { threadId, name: `${userId}-private-title` })
        })
      )
      for (const [one, other] of pairs) {
        t.ok(one.client.received.length > 500)
        t.strictSame(leaks(one.client.received, other), [])
      }
    })

    await t.test('no GET route shows anything of the other', async (t) => {
      const { paths } = (await gateway.app.inject('/openapi.json')).json()
      for (const [one, other] of pairs) {
        const readable = Object.keys(paths).filter((path) => paths[path].get && path.startsWith('/api/'))
        t.ok(readable.length >= 4, readable.join(' '))
        for (const path of readable) {
          const response = await inject(one.userId, { url: fillIn(path, other) })
          t.strictSame(leaks(response.body, other, [other.threadId, other.turnId, other.approvalId]), [], path)
          if (path.includes('{threadId}')) t.equal(response.statusCode, 404, path)
        }
      }
    })

    await t.test('the other’s ids are not found, by any method or route', async (t) => {
      for (const [one, { threadId, turnId, approvalId }] of pairs) {
        const input = [{ type: 'text', text: 'hello' }]
        const calls: [string, object][] = [
          ['thread/read', { threadId, includeTurns: true }],
          ['thread/turns/list', { threadId }],
          ['thread/goal/get', { threadId }],
          ['thread/unarchive', { threadId }],
          ['thread/queue/list', { threadId }],
          ['thread/resume', { threadId }],
          ['thread/fork', { threadId }],
          ['thread/archive', { threadId }],
          ['thread/delete', { threadId }],
          ['thread/name/set', { threadId, name: 'taken over' }],
          ['turn/start', { threadId, input }],
          ['turn/steer', { threadId, expectedTurnId: turnId, input }],
          ['turn/interrupt', { threadId, turnId }],
          ['approval/respond', { approvalId, decision: 'accept' }],
          ['approval/extend', { approvalId, ms: 60_000 }]
        ]
        for (const [type, payload] of calls) {
          const answer = await one.client.request(type, payload)
          t.match(answer, { type: 'error', payload: { code: /^CC_(APPROVAL_)?NOT_FOUND$/ } }, type)
        }
        const posts: [string, object][] = [
          [`/api/threads/${threadId}/turns`, { input }],
          [`/api/threads/${threadId}/turns/${turnId}/interrupt`, {}],
          [`/api/approvals/${approvalId}/respond`, { decision: 'accept' }]
        ]
        for (const [url, payload] of posts) {
          t.equal((await inject(one.userId, { method: 'POST', url, payload })).statusCode, 404, url)
        }
      }
      for (const { client, approvalId } of [alice, bob]) {
        t.notOk(
          client.received.some(({ type }) => type === 'approval/resolved'),
          'both approvals still wait'
        )
        t.ok(gateway.app.sessions.find(client.ready.payload.userId)?.pendingApprovals()[0]?.approvalId === approvalId)
      }
    })

    await t.test('the other’s place in the journal leads to a gap and to one’s own snapshot', async (t) => {
      for (const [one, other] of pairs) {
        const { epoch } = other.client.ready.payload
        const { query, headers } = await caller(one.userId)
        const url = `ws://${gateway.address}/ws${query}${query === '' ? '?' : '&'}epoch=${epoch}&since=0`
        const replayed = await TestClient.connect(t, url, { headers })
        const { payload } = await replayed.waitFor('session/snapshot')
        t.ok(payload.threads.some(({ threadId }: { threadId: string }) => threadId === one.threadId))
        t.ok(replayed.received.some(({ type }) => type === 'session/gap'))
        t.ok(await replayed.call('session/resume', { epoch, since: 0 }))
        t.ok(await replayed.call('thread/list', {}))
        t.strictSame(leaks(replayed.received, other, [epoch]), [])
      }
    })

    await t.test('the other’s directories are outside', async (t) => {
      for (const [one, other] of pairs) {
        const directories = gateway.app.sessions.find(other.userId)?.directories
        for (const path of Object.values(directories ?? {})) {
          for (const [type, payload] of [
            ['thread/start', { workingDirectory: path }],
            ['turn/start', { threadId: one.threadId, cwd: path, input: 'hello' }],
            ['thread/list', { cwd: path }],
            ['turn/start', { threadId: one.threadId, input: [{ type: 'skill', name: 'x', path: `${path}/x` }] }]
          ] as const) {
            const answer = await one.client.request(type, payload)
            t.match(answer, { type: 'error', payload: { code: 'CC_OUTSIDE_WORKSPACE' } }, `${type} ${path}`)
          }
        }
      }
    })

    await t.test('the record is each user’s own', async (t) => {
      for (const { client, approvalId, turnId, userId } of [alice, bob]) {
        await client.call('approval/respond', { approvalId, decision: 'decline' })
        await client.waitForTurnEnd(turnId)
        const { records } = (await inject(userId, { url: '/api/audit' })).json()
        t.match(records, [{ userId, approvalId, actor: { id: userId } }])
      }
      for (const [one, other] of pairs) {
        const url = `/api/audit?threadId=${other.threadId}`
        t.strictSame((await inject(one.userId, { url })).json().records, [])
      }
    })

    if (mode === 'with tokens') {
      await t.test('a token does not speak for another user', async (t) => {
        const { headers } = await byToken('bob')
        for (const options of [
          { url: '/api/threads?userId=alice' },
          { url: '/api/threads', headers: { 'x-user-id': 'alice' } },
          { url: '/api/audit?userId=alice' },
          { url: '/api/threads', method: 'POST', payload: { userId: 'alice' } }
        ] satisfies InjectOptions[]) {
          const response = await inject('bob', options)
          t.equal(response.statusCode, 403)
          t.match(response.json(), { error: { code: 'CC_FORBIDDEN' } })
        }
        const url = `ws://${gateway.address}/ws?userId=alice`
        await t.rejects(TestClient.connect(t, url, { headers }), new Error('HTTP 403'))
      })

      await t.test('a service and an admin may act for a user by naming them', async (t) => {
        for (const role of ['service', 'admin']) {
          const headers = await bearer(`${role}-account`, { roles: [role] })
          const client = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice`, { headers })
          t.equal(client.ready.payload.userId, 'alice')
          const { turnId } = await client.startTurn('escalate: touch for-alice.txt', alice.threadId)
          const { payload } = await client.waitFor('approval/request')
          const listed = await gateway.app.inject({ url: '/api/approvals?userId=alice', headers })
          t.equal(listed.json().approvals[0].approvalId, payload.approvalId)
          const own = await gateway.app.inject({ url: '/api/approvals', headers })
          t.strictSame(own.json().approvals, [], 'their own session is another')
          const answered = await gateway.app.inject({
            method: 'POST',
            url: `/api/approvals/${payload.approvalId}/respond?userId=alice`,
            headers,
            payload: { decision: 'decline' }
          })
          t.match(answered.json(), { by: { kind: 'user', id: `${role}-account` } })
          await client.waitForTurnEnd(turnId)
        }
        const all = await gateway.app.inject({ url: '/api/audit', headers: await bearer('root', { roles: ['admin'] }) })
        const users = new Set(all.json().records.map(({ userId }: { userId: string }) => userId))
        t.ok(users.has('alice') && users.has('bob'))
        const some = await gateway.app.inject({
          url: '/api/audit',
          headers: await bearer('sv', { roles: ['service'] })
        })
        t.strictSame(
          some.json().records.filter(({ userId }: { userId: string }) => userId !== 'sv'),
          []
        )
      })
    }
  })
}

/** A user with a finished turn and one that waits for an approval, both full of words of their own. */
async function moveIn(t: Test, { address }: Gateway, userId: string, caller: Caller): Promise<Tenant> {
  const { query, headers } = await caller(userId)
  const client = await TestClient.connect(t, `ws://${address}/ws${query}`, { headers })
  const marker = `${userId}-private-word`
  const first = await client.startTurn(`hello ${marker}`)
  await client.waitForTurnEnd(first.turnId)
  const { threadId, turnId } = await client.startTurn(`escalate: touch ${userId}-private-file`, first.threadId)
  const { payload } = await client.waitFor('approval/request')
  const { sessionId, epoch } = client.ready.payload
  const { approvalId } = payload
  const own = [`${userId}-private-`, threadId, turnId, first.turnId, approvalId, sessionId, epoch, payload.cwd]
  return { userId, client, threadId, turnId, approvalId, secrets: own }
}

/** Which of the other's secrets stand in what somebody got; `asked`: what the caller had said themselves. */
function leaks(got: string | Received[], other: Tenant, asked: string[] = []): string[] {
  const text = typeof got === 'string' ? got : JSON.stringify(got)
  return other.secrets.filter((secret) => !asked.includes(secret) && text.includes(secret))
}

function fillIn(path: string, { threadId, turnId, approvalId }: Tenant): string {
  return path
    .replace('{threadId}', threadId)
    .replace('{turnId}', turnId)
    .replace('{approvalId}', approvalId)
    .replace(/\{\w+\}/g, approvalId)
}
