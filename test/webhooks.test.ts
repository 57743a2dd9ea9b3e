import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../config.ts'
import type { WebhookEvent } from '../schemas/webhooks.ts'
import { isSignedBy } from '../src/webhooks/signature.ts'
import { type Gateway, startGateway, type Teardown } from './support/gateway.ts'
import { WebhookReceiver } from './support/webhook-receiver.ts'
import { TestClient } from './support/ws-client.ts'

const WEBHOOK_SECRET = 'a webhook secret of 32 characters'
const PUBLIC_URL = 'https://codex.example.test'
/** An answer that is waited for would show as this. */
const NOT_SLOW_MS = 5_000

interface House {
  gateway: Gateway
  receiver: WebhookReceiver
  client: TestClient
}

/** A gateway with a webhook, and alice at a client. */
async function startHouse(t: Teardown, variables: Record<string, string> = {}): Promise<House> {
  const receiver = await WebhookReceiver.start(t)
  const gateway = await startGateway(t, { WEBHOOK_URL: receiver.url, WEBHOOK_SECRET, PUBLIC_URL, ...variables })
  const client = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice`)
  return { gateway, receiver, client }
}

/** Starts a turn whose command asks; resolves with what the webhook is told of it. */
async function ask({ client, receiver }: House, command: string, threadId?: string) {
  const turn = await client.startTurn(`escalate: ${command}`, threadId)
  const event = await receiver.waitFor('approval.requested', ({ approval }) => approval.turnId === turn.turnId)
  const { token = '', url = '' } = event.decide ?? {}
  return { ...turn, event, approvalId: event.approval.approvalId, cwd: event.approval.cwd ?? '', token, url }
}

function decide({ gateway }: House, payload: object, headers: Record<string, string> = {}) {
  return gateway.app.inject({ method: 'POST', url: '/api/approvals/decide', payload, headers })
}

async function auditOf({ gateway }: House) {
  return (await gateway.app.inject('/api/audit?userId=alice')).json().records
}

t.test('a webhook hears of an approval, signed and without secrets, and decides it with its token', async (t) => {
  const house = await startHouse(t)
  const { receiver, client } = house
  receiver.answer = (response, number) => response.writeHead(number === 0 ? 500 : 200).end()

  const secret =
    'touch made.txt # --password hunter2 OPENAI_API_KEY=sk-abcdef0123456789 https://bob:s3cret@example.test/'
  const { event, token, cwd, threadId, turnId, approvalId } = await ask(house, secret)
  t.match(event, {
    id: /^whd_/,
    userId: 'alice',
    approval: {
      kind: 'command',
      threadId,
      turnId,
      command: /touch made\.txt/,
      decisions: ['accept', 'acceptForSession', 'decline', 'cancel']
    },
    decide: { url: `${PUBLIC_URL}/decide?token=${token}`, decisions: ['accept', 'decline', 'cancel'] }
  })
  t.equal(event.decide?.expiresAt, event.approval.expiresAt)

  const answer = await decide(house, { token, decision: 'accept' })
  t.equal(answer.statusCode, 200)
  const by = { kind: 'webhook', id: new URL(receiver.url).host }
  t.same(answer.json(), { approvalId, outcome: 'accepted', decision: 'accept', by })
  await client.waitForTurnEnd(turnId)
  await readFile(join(cwd, 'made.txt'))
  t.match((await client.waitFor('approval/resolved')).payload, { outcome: 'accepted', by })
  t.match(await auditOf(house), [{ type: 'approval', approvalId, outcome: 'accepted', actor: by }])

  const end = await receiver.waitFor('approval.resolved')
  t.match(end, { outcome: 'accepted', by, approval: { approvalId } })
  t.equal(end.decide, undefined, 'no token with an ending')
  t.same(
    receiver.received.map(({ event }) => event.type),
    ['approval.requested', 'approval.requested', 'approval.resolved']
  )
  t.equal(receiver.received[0]?.event.id, receiver.received[1]?.event.id, 'tried again under the same id')
  for (const { body, headers } of receiver.received) {
    t.ok(isSignedBy(WEBHOOK_SECRET, String(headers['x-cloud-codex-signature']), body, Date.now()))
    for (const private_ of ['hunter2', 'sk-abcdef0123456789', 's3cret', WEBHOOK_SECRET])
      t.notOk(body.includes(private_))
  }
})

t.test('a webhook hears nothing of what policy decides, and no contents of what people decide', async (t) => {
  const house = await startHouse(t)
  const { client, receiver } = house
  const { threadId, turnId } = await client.startTurn('escalate: ls -la')
  await client.waitForTurnEnd(turnId)
  const patch = '*** Begin Patch\n*** Add File: ../elsewhere.txt\n+line of content\n*** End Patch'
  const second = await client.startTurn(`patch: ${patch}`, threadId)
  const { approval } = await receiver.waitFor('approval.requested')
  t.match(approval, { kind: 'fileChange', turnId: second.turnId, paths: [/elsewhere\.txt$/] })
  await client.call('approval/respond', { approvalId: approval.approvalId, decision: 'decline' })
  t.match(await receiver.waitFor('approval.resolved'), { outcome: 'declined', by: { kind: 'user', id: 'alice' } })
  await client.waitForTurnEnd(second.turnId)
  t.equal(receiver.received.length, 2)
  t.notOk(receiver.received.some(({ body }) => body.includes('line of content')))
})

t.test('a token decides once, one approval, and only what it may', async (t) => {
  const house = await startHouse(t)
  const { client } = house
  const one = await ask(house, 'touch one.txt')
  const bob: House = { ...house, client: await TestClient.connect(t, `ws://${house.gateway.address}/ws?userId=bob`) }
  const other = await ask(bob, 'touch other.txt')

  const [, secretOfOne = ''] = one.token.split('.')
  const wrong = [`${other.approvalId}.${secretOfOne}`, `${one.approvalId}.`, secretOfOne, 'x', `.${secretOfOne}`, '.']
  for (const token of [...wrong, `${one.token}x`, one.token.slice(0, -1)]) {
    const refused = await decide(house, { token, decision: 'accept' })
    t.match([refused.statusCode, refused.json().error.code], [401, 'CC_DECISION_TOKEN_INVALID'], token)
  }
  t.equal((await decide(house, { decision: 'accept' })).statusCode, 401, 'no token')
  t.equal((await decide(house, { token: one.token, decision: 'acceptForSession' })).statusCode, 400)
  t.equal((await decide(house, { token: one.token, decision: 'accept', answers: {} })).statusCode, 400)
  t.equal(client.received.filter(({ type }) => type === 'approval/resolved').length, 0, 'nothing is decided so far')

  const declined = await decide(house, { decision: 'decline' }, { authorization: `Bearer ${one.token}` })
  t.match(declined.json(), { approvalId: one.approvalId, outcome: 'declined', by: { kind: 'webhook' } })
  await client.waitForTurnEnd(one.turnId)
  await t.rejects(readFile(join(one.cwd, 'one.txt')), { code: 'ENOENT' })
  const again = await decide(house, { token: one.token, decision: 'accept' })
  t.equal(again.statusCode, 409)
  t.match(again.json().error, {
    code: 'CC_APPROVAL_RESOLVED',
    details: { outcome: 'declined', by: { kind: 'webhook' } }
  })

  await bob.client.call('approval/respond', { approvalId: other.approvalId, decision: 'cancel' })
  const late = await decide(house, { token: other.token, decision: 'accept' })
  t.equal(late.statusCode, 409)
  t.match(late.json().error.details, { outcome: 'declined', by: { kind: 'user', id: 'bob' } })
})

t.test('of many deciders at once one wins, and one record says so', async (t) => {
  const house = await startHouse(t)
  const { approvalId, token, turnId } = await ask(house, 'touch raced.txt')
  const [viaClient, ...viaToken] = await Promise.all([
    house.client.request('approval/respond', { approvalId, decision: 'decline' }),
    ...Array.from({ length: 20 }, (_, n) => decide(house, { token, decision: n % 2 === 0 ? 'accept' : 'decline' }))
  ])
  const wins = viaToken.filter(({ statusCode }) => statusCode === 200).length + (viaClient.type === 'response' ? 1 : 0)
  t.equal(wins, 1)
  t.equal(
    viaToken.filter(({ statusCode }) => statusCode === 409).length,
    21 - wins - (viaClient.type === 'error' ? 1 : 0)
  )
  await house.client.waitForTurnEnd(turnId)
  t.equal((await auditOf(house)).length, 1)
})

t.test('an approval reminds, with a token of its own, and expires with all its tokens', async (t) => {
  const house = await startHouse(t, { APPROVAL_TIMEOUT_MS: '3000' })
  const { receiver, client } = house
  const first = await ask(house, 'touch never.txt')
  const reminder = await receiver.waitFor('approval.reminder')
  t.not(reminder.decide?.token, first.token)
  t.match(reminder.approval, { approvalId: first.approvalId, command: /touch never/ })
  await client.waitForTurnEnd(first.turnId)
  t.match(await receiver.waitFor('approval.expired'), { outcome: 'expired', by: { kind: 'timeout' } })
  for (const token of [first.token, reminder.decide?.token]) {
    t.equal((await decide(house, { token, decision: 'accept' })).statusCode, 401)
  }
  await t.rejects(readFile(join(first.cwd, 'never.txt')), { code: 'ENOENT' })

  const second = await ask(house, 'touch reminded.txt', first.threadId)
  const isSecond = ({ approval }: WebhookEvent) => approval.approvalId === second.approvalId
  const late = await receiver.waitFor('approval.reminder', isSecond)
  t.equal((await decide(house, { token: late.decide?.token, decision: 'accept' })).statusCode, 200)
  await client.waitForTurnEnd(second.turnId)
  await readFile(join(second.cwd, 'reminded.txt'))
})

t.test('an extended approval keeps its tokens, and many extensions are not many deliveries', async (t) => {
  const house = await startHouse(t, { APPROVAL_TIMEOUT_MS: '2000' })
  const { receiver, client } = house
  const { approvalId, token, event, turnId } = await ask(house, 'touch late.txt')
  for (let n = 0; n < 20; n++) await client.call('approval/extend', { approvalId, ms: 5_000 })
  const reminder = await receiver.waitFor('approval.reminder')
  t.ok(Date.parse(reminder.decide?.expiresAt ?? '') > Date.parse(event.approval.expiresAt))
  // The time it had at first has to pass: only then the token shows that it lives on.
  await new Promise((resolve) => setTimeout(resolve, Date.parse(event.approval.expiresAt) - Date.now() + 50))
  t.equal((await decide(house, { token, decision: 'accept' })).statusCode, 200)
  await client.waitForTurnEnd(turnId)
  await receiver.waitFor('approval.resolved')
  t.equal(receiver.received.filter(({ event }) => event.type === 'approval.reminder').length, 1)
})

t.test('the link shows a page that only its buttons turn into a decision', async (t) => {
  const house = await startHouse(t)
  const { gateway, client } = house
  // A direction override that would show "txt.exe" backwards, and markup.
  const { url, token, turnId, cwd } = await ask(house, `touch page.txt # <img src=x onerror=alert(1)> \u202e "quoted"`)
  const path = url.slice(PUBLIC_URL.length)

  for (const method of ['GET', 'HEAD', 'GET'] as const) {
    const page = await gateway.app.inject({ method, url: path })
    t.equal(page.statusCode, 200)
    t.match(page.headers, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy':
        /default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; frame-ancestors 'none'/,
      'referrer-policy': 'same-origin',
      'cache-control': 'no-store'
    })
    if (method === 'HEAD') continue
    t.match(page.body, /touch page\.txt/)
    t.notMatch(page.body, /<img|<script|\u202e|https?:/, 'nothing of the command is markup, nothing is loaded')
    t.match(page.body, /<mark>U\+202e<\/mark>/)
    t.match(page.body, `<input type="hidden" name="token" value="${token}">`)
  }
  t.equal(client.received.filter(({ type }) => type === 'approval/resolved').length, 0, 'looking decides nothing')

  const post = (origin: string | undefined, form: Record<string, string>) =>
    fetch(`http://${gateway.address}/decide`, {
      method: 'POST',
      body: new URLSearchParams(form),
      headers: origin === undefined ? {} : { origin }
    })
  for (const origin of ['https://evil.example', 'null']) {
    t.equal((await post(origin, { token, decision: 'accept' })).status, 403, origin)
  }
  t.equal((await post(PUBLIC_URL, { token, decision: 'acceptForSession' })).status, 400)
  t.equal((await post(PUBLIC_URL, { token: `${token}x`, decision: 'accept' })).status, 401)
  const json = { method: 'POST', body: JSON.stringify({ token, decision: 'accept' }) }
  const asJson = await fetch(`http://${gateway.address}/decide`, {
    ...json,
    headers: { 'content-type': 'application/json' }
  })
  t.equal(asJson.status, 415)

  const done = await post(PUBLIC_URL, { token, decision: 'accept' })
  t.equal(done.status, 200)
  t.match(await done.text(), /This approval is accepted/)
  await client.waitForTurnEnd(turnId)
  await readFile(join(cwd, 'page.txt'))
  const twice = await post(`http://${gateway.address}`, { token, decision: 'decline' })
  t.equal(twice.status, 409)
  t.match(await twice.text(), /This approval is accepted.*By: webhook/s)
  const page = await gateway.app.inject(path)
  t.match(page.body, /This approval is accepted/)
  t.notMatch(page.body, /<button/)
  const unknown = await gateway.app.inject('/decide?token=x')
  t.equal(unknown.statusCode, 401)
  t.match(unknown.headers, { 'content-type': 'text/html; charset=utf-8' })
})

t.test('what a webhook cannot show in full, its token and its page cannot accept', async (t) => {
  const { gateway, receiver } = await startHouse(t)
  gateway.app.webhooks.onApproval('alice', {
    type: 'approval/request',
    payload: {
      approvalId: 'appr_asked',
      kind: 'userInput',
      method: 'item/tool/requestUserInput',
      threadId: null,
      turnId: null,
      itemId: null,
      questions: [{ question: 'Which?' }],
      policy: { rule: 'ask', reason: 'a question to the user' },
      decisions: ['accept', 'decline'],
      expiresAt: new Date(Date.now() + 60_000).toISOString()
    }
  })
  const { decide: offer } = await receiver.waitFor('approval.requested')
  t.same(offer?.decisions, ['decline'])
  const refused = await gateway.app.inject({
    method: 'POST',
    url: '/api/approvals/decide',
    payload: { token: offer?.token, decision: 'accept' }
  })
  t.match([refused.statusCode, refused.json().error.code], [400, 'CC_INVALID_DECISION'])
  const page = await gateway.app.inject(`/decide?token=${offer?.token}`)
  t.match(page.body, /cannot be accepted here/)
  t.match(page.body, /value="decline"/)
  t.notMatch(page.body, /value="(accept|cancel)"/)
})

t.test(
  'without PUBLIC_URL there is a token and no link; with auth no other credential is needed, or enough',
  async (t) => {
    const receiver = await WebhookReceiver.start(t)
    const gateway = await startGateway(t, {
      WEBHOOK_URL: receiver.url,
      WEBHOOK_SECRET,
      JWT_SECRET: 'a jwt secret of thirty-two characters'
    })
    const jwt = gateway.app.jwt.sign({ sub: 'alice' })
    const authorization = `Bearer ${jwt}`
    const client = await TestClient.connect(t, `ws://${gateway.address}/ws`, { headers: { authorization } })
    const house = { gateway, receiver, client }
    const { token, event } = await ask(house, 'touch a.txt')
    t.notOk(event.decide && 'url' in event.decide)
    t.equal(
      (await decide(house, { decision: 'accept' }, { authorization })).statusCode,
      401,
      'a user’s token is no decision token'
    )
    const list = await gateway.app.inject({ url: '/api/approvals', headers: { authorization: `Bearer ${token}` } })
    t.equal(list.statusCode, 401, 'and the other way round')
    t.equal((await decide(house, { decision: 'decline' }, { authorization: `Bearer ${token}` })).statusCode, 200)
  }
)

t.test('a webhook that is down slows no approval, and the gateway still closes in time', async (t) => {
  const house = await startHouse(t)
  const { client, receiver, gateway } = house
  receiver.answer = (response, number) => {
    if (number % 2 === 0) response.writeHead(503).end()
  }
  const { threadId } = await client.call('thread/start', {})
  for (let n = 0; n < 3; n++) {
    const { turnId } = await client.startTurn(`escalate: touch ${n}.txt`, threadId)
    const { payload } = await client.waitFor('approval/request', (approval) => approval.turnId === turnId)
    const startMs = Date.now()
    await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
    t.ok(Date.now() - startMs < NOT_SLOW_MS, `${Date.now() - startMs} ms`)
    await client.waitForTurnEnd(turnId)
  }
  await ask(house, 'touch pending.txt', threadId)
  const startMs = Date.now()
  await gateway.close()
  t.ok(Date.now() - startMs < NOT_SLOW_MS, `closed after ${Date.now() - startMs} ms`)
})

t.test('a gateway that closes still tells the webhook how the last approvals ended', async (t) => {
  const house = await startHouse(t)
  house.receiver.answer = (response, number) => response.writeHead(number === 1 ? 503 : 204).end()
  const { approvalId } = await ask(house, 'touch never.txt')
  await house.gateway.close()
  const [, failed, last] = house.receiver.received
  t.equal(last?.event.id, failed?.event.id, 'what failed is tried once more before the end')
  t.match(last?.event, {
    type: 'approval.resolved',
    outcome: 'orphaned',
    by: { kind: 'shutdown' },
    approval: { approvalId }
  })
})

t.test('the configuration of a webhook is checked before anything starts, without repeating it', (t) => {
  const url = 'https://hooks.example.test/T0/secret-path'
  const broken: Record<string, string>[] = [
    { WEBHOOK_URL: url },
    { WEBHOOK_SECRET },
    { WEBHOOK_URL: url, WEBHOOK_SECRET: 'short' },
    { WEBHOOK_URL: 'hooks.example.test/secret-path', WEBHOOK_SECRET },
    { WEBHOOK_URL: 'file:///secret-path', WEBHOOK_SECRET },
    { WEBHOOK_URL: 'https://user:secret-path@hooks.example.test', WEBHOOK_SECRET },
    { PUBLIC_URL: 'codex.example.test/secret-path' },
    { PUBLIC_URL: 'https://codex.example.test/?a=secret-path' }
  ]
  for (const variables of broken) {
    try {
      loadConfig(variables)
      t.fail(`${JSON.stringify(variables)} is taken`)
    } catch (error) {
      const { code, message } = error as { code: string; message: string }
      t.equal(code, 'CC_CONFIG_INVALID', message)
      t.notMatch(message, /secret-path/)
    }
  }
  t.match(loadConfig({ WEBHOOK_URL: url, WEBHOOK_SECRET, PUBLIC_URL: 'https://codex.example.test/path/' }), {
    webhook: { url, secret: WEBHOOK_SECRET },
    publicUrl: 'https://codex.example.test/path'
  })
  t.end()
})
