import t from 'tap'
import { Compile } from 'typebox/compile'
import { ServerMessageSchema } from '../schemas/server-messages.ts'
import { startGateway } from './support/gateway.ts'
import { TestClient } from './support/ws-client.ts'

const serverMessage = Compile(ServerMessageSchema)

/** Sends a message as the owner's README writes it, without a requestId, and waits for what answers it. */
async function say(client: TestClient, message: object): Promise<TestClient['received'][number]> {
  const from = client.received.length
  client.send(message)
  return client.waitForMessage(
    (received) => ['response', 'error'].includes(received.type) && client.received.indexOf(received) >= from,
    `the answer to ${JSON.stringify(message)}`
  )
}

t.test('the messages of the owner’s README work one by one', async (t) => {
  const { address } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=user-123`)
  const start = { model: 'gpt-5.1-codex', workingDirectory: '/path/to/project' }

  const refused = await say(client, { type: 'thread/start', payload: start })
  t.match(refused, { type: 'error', payload: { code: 'CC_OUTSIDE_WORKSPACE', message: /relative to the workspace/ } })
  const inside = await say(client, { type: 'thread/start', payload: { ...start, workingDirectory: 'project' } })
  t.match(inside, {
    type: 'response',
    payload: { threadId: String, thread: { cwd: /\/project$/ }, model: start.model }
  })
  const { threadId, thread } = inside.payload
  const absolute = await say(client, { type: 'thread/start', payload: { ...start, workingDirectory: thread.cwd } })
  t.equal(absolute.payload.thread.cwd, thread.cwd, 'an absolute path inside the workspace is one too')

  const input = [{ type: 'text', text: 'escalate: touch made.txt' }]
  const turn = await say(client, { type: 'turn/start', payload: { threadId, input } })
  t.match(turn, { type: 'response', payload: { turnId: String } })
  const event = await client.waitForEvent('turn/started')
  t.match(event, { type: 'event', seq: Number, payload: { method: 'turn/started', params: { threadId } } })

  const asked = await client.waitFor('approval/request')
  t.match(asked.payload, { kind: 'command', threadId, turnId: turn.payload.turnId, cwd: thread.cwd })
  t.match(asked.payload.command, /touch made\.txt/)
  const { approvalId } = asked.payload
  const answered = await say(client, { type: 'approval/respond', payload: { approvalId, decision: 'accept' } })
  t.match(answered, { type: 'response', payload: { approvalId, outcome: 'accepted', decision: 'accept' } })
  await client.waitForTurnEnd(turn.payload.turnId)

  const words = await say(client, { type: 'turn/start', payload: { threadId, input: 'as plain text' } })
  await client.waitForTurnEnd(words.payload.turnId)
  const said = client.received.filter(
    ({ payload }) => payload?.method === 'item/agentMessage/delta' && payload.params.turnId === words.payload.turnId
  )
  t.match(said.map(({ payload }) => payload.params.delta).join(''), /You said: as plain text$/)

  for (const message of client.received) {
    if (serverMessage.Check(message)) continue
    t.fail(`outside the contract: ${JSON.stringify(message)}`, { errors: [...serverMessage.Errors(message)] })
  }
  t.strictSame(
    client.seqs,
    client.seqs.map((_, index) => index + 1),
    'numbered from 1 without a gap'
  )
})

t.test('the REST calls of the owner’s README work', async (t) => {
  const { app } = await startGateway(t)

  const health = await app.inject('/health')
  t.match([health.statusCode, health.json()], [200, { status: 'ok' }])

  const body = { userId: 'user-123', model: 'gpt-5.1-codex' }
  const created = await app.inject({ method: 'POST', url: '/api/threads', body })
  t.match([created.statusCode, created.json()], [201, { threadId: String, model: body.model }])

  const nobody = await app.inject({ method: 'POST', url: '/api/threads', body: { model: body.model } })
  t.match([nobody.statusCode, nobody.json()], [401, { error: { code: 'CC_UNAUTHORIZED', message: /userId/ } }])
})

t.test('the API describes itself: OpenAPI 3.1 with every route, and a page that needs no other host', async (t) => {
  const { app } = await startGateway(t)
  const api = (await app.inject('/openapi.json')).json()

  t.equal(api.openapi, '3.1.0')
  for (const [path, method] of [
    ['/health', 'get'],
    ['/ready', 'get'],
    ['/api/threads', 'post'],
    ['/api/threads', 'get'],
    ['/api/threads/{threadId}', 'get'],
    ['/api/threads/{threadId}/turns', 'post'],
    ['/api/threads/{threadId}/turns/{turnId}/interrupt', 'post'],
    ['/api/approvals', 'get'],
    ['/api/approvals/{approvalId}/respond', 'post'],
    ['/api/audit', 'get']
  ] as const) {
    t.match(api.paths[path]?.[method], { operationId: String, summary: String, responses: Object }, `${method} ${path}`)
  }
  const json = JSON.stringify(api)
  const references = [...json.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name as string)
  t.ok(references.length > 10)
  for (const name of references) t.ok(api.components.schemas[name], `${name} is described`)

  const page = await app.inject('/docs')
  t.match(page.headers['content-type'], 'text/html')
  const sources = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, source]) => source as string)
  t.ok(sources.length >= 5)
  for (const source of sources) {
    t.match(source, /^\/docs\//, 'from this host')
    t.equal((await app.inject(source)).statusCode, 200, source)
  }
  t.notMatch(page.headers['content-security-policy'], /upgrade-insecure-requests|https?:|swagger\.io/)
  const script = (await app.inject('/docs/static/swagger-initializer.js')).body
  t.notMatch(script, /(?:url|src|href)['"]?\s*[:=]\s*['"]https?:/, 'the page loads nothing from elsewhere')
})
