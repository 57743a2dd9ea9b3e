import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ClientOptions } from 'ws'
import { userKey } from '../src/isolation/user-directories.ts'
import { APPROVAL_CASES, CODEX_SETTINGS, DYNAMIC_TOOLS, escalate } from './support/approval-cases.ts'
import { startCodexListener } from './support/codex-listener.ts'
import { codexWith } from './support/codex-with.ts'
import { type Gateway, scratchDirectory, startGateway } from './support/gateway.ts'
import { HOLD, startHeldModel } from './support/held-model.ts'
import { startModelServer } from './support/model-server.ts'
import { NativeClient, type NativeMessage } from './support/native-client.ts'
import { signalCodex } from './support/processes.ts'
import { type ScriptedModel, startScriptedModel } from './support/scripted-responses.ts'
import { bearer, TEST_SECRET, tokenFor } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const MODEL = 'gpt-5.5'
const input = (text: string) => [{ type: 'text', text, text_elements: [] }]

interface Stage {
  gateway: Gateway
  model: ScriptedModel
  url: string
  ws(): Promise<TestClient>
  native(options?: ClientOptions & { capabilities?: object }): Promise<NativeClient>
}

async function startStage(t: Test, variables: Record<string, string> = {}): Promise<Stage> {
  const model = await startScriptedModel(t)
  const CODEX_BIN = await codexWith(t, CODEX_SETTINGS)
  const gateway = await startGateway(t, { MODEL_BASE_URL: model.baseUrl, MODEL, CODEX_BIN, ...variables })
  const url = `ws://${gateway.address}/?userId=alice`
  return {
    gateway,
    model,
    url,
    ws: () => TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice`),
    native: (options) => NativeClient.connect(t, url, options)
  }
}

async function startThread(client: NativeClient): Promise<string> {
  return (await client.call('thread/start', { dynamicTools: DYNAMIC_TOOLS })).thread.id
}

async function startTurn(client: NativeClient, threadId: string, text: string): Promise<string> {
  return (await client.call('turn/start', { threadId, input: input(text) })).turn.id
}

function turnEnd(client: NativeClient, turnId: string): Promise<NativeMessage> {
  return client.notified('turn/completed', ({ turn }) => turn.id === turnId)
}

function asked(client: NativeClient, turnId: string): Promise<NativeMessage> {
  return client.waitFor((message) => isRequest(message) && message.params.turnId === turnId, 'request')
}

function isRequest({ id, method }: NativeMessage): boolean {
  return id !== undefined && method !== undefined
}

const methods = (client: NativeClient) => client.received.flatMap(({ method }) => method ?? [])

t.test('before, during and after the handshake the gateway answers as codex does', async (t) => {
  const { baseUrl } = await startModelServer(t)
  const { address } = await startGateway(t, { MODEL_BASE_URL: baseUrl, MODEL })
  const codex = await startCodexListener(t, baseUrl, MODEL)
  const ours = await playHandshake(await NativeClient.open(t, `ws://${address}/?userId=alice`))
  const theirs = await playHandshake(await NativeClient.open(t, `ws://${codex.address}`))
  t.strictSame(ours, theirs)
  t.ok(theirs.length > 25)
})

/** Says what no client should, step by step, and returns all that came back, less what may differ. */
async function playHandshake(client: NativeClient): Promise<string[]> {
  const info = { name: 'test', title: null, version: '0' }
  const frames = [
    { id: 1, method: 'thread/list', params: {} },
    { id: 2, method: 'no/such', params: {} },
    { id: 3, method: 'thread/list' },
    { method: 'initialized' },
    { id: 4, method: 'initialize' },
    { id: 5, method: 'initialize', params: {} },
    { id: 6, method: 'initialize', params: { clientInfo: { version: '0' } } },
    { id: 7, method: 'initialize', params: { clientInfo: { name: 'a' } } },
    { id: 8, method: 'initialize', params: { clientInfo: { name: 'a\nb', version: '0' } } },
    'no JSON',
    '[{"id":9,"method":"thread/list","params":{}}]',
    '{"id":9,"result":{}}',
    { id: 'initialize', method: 'initialize', params: { clientInfo: info, capabilities: null }, jsonrpc: '2.0' },
    { id: 10, method: 'initialize', params: { clientInfo: info } },
    '{"id":9007199254740993,"method":"thread/loaded/list","params":{}}',
    '{"method":"thread/loaded/list","params":{},"id":-9223372036854775808}',
    '{"id":9223372036854775808,"method":"thread/loaded/list","params":{}}',
    '{"id":"\\u00fc\\"\\\\","method":"thread/loaded/list","params":{}}',
    '{"id":"","method":"thread/loaded/list","params":{},"trace":null,"other":1}',
    '{"id":1.5,"method":"thread/loaded/list","params":{}}',
    '{"id":null,"method":"thread/loaded/list","params":{}}',
    { id: 11, method: 'configRequirements/read' },
    { id: 12, method: 'configRequirements/read', params: {} },
    { id: 13, method: 'account/read' },
    { id: 14, method: 'no/such', params: {} },
    { id: 15, method: 'thread/read', params: { threadId: 'none' } },
    { id: 16, method: 'thread/read', params: { threadId: '01999999-0000-7000-8000-000000000000' } },
    { id: 17, method: 'turn/interrupt', params: { threadId: '01999999-0000-7000-8000-000000000000', turnId: 'x' } },
    { id: 18, method: 'collaborationMode/list', params: {} },
    { id: 19, method: 'thread/unsubscribe', params: { threadId: '01999999-0000-7000-8000-000000000000' } },
    { id: 9, error: { code: 1, message: 'x' } },
    { method: 'no/such', params: {} }
  ]
  for (const [index, frame] of frames.entries()) {
    client.socket.send(Buffer.from(JSON.stringify(frame)), { binary: true })
    client.send(frame)
    // Has an answer at any time, so that each step ends.
    const mark = `mark-${index}`
    client.send({ id: mark, method: 'thread/loaded/list', params: {} })
    await client.waitFor(({ id }) => id === mark, `answer to ${mark}`)
  }
  for (const last of [15, 16, 17, 18, 19]) await client.waitFor(({ id }) => id === last, `answer to ${last}`)
  const said = client.texts.map((text) => {
    const { error, result, ...rest } = JSON.parse(text)
    if (error)
      return JSON.stringify({ code: error.code, message: error.message.replace(/, expected one of .*/, ''), rest })
    if (result?.userAgent)
      return JSON.stringify({ ...result, userAgent: result.userAgent.slice(-20), codexHome: 'x', rest })
    return text.replace(/"installationId":"[^"]*"|"emittedAtMs":\d+/g, 'x')
  })
  // codex works on several requests at once.
  return said.sort()
}

t.test('two clients and a browser on one thread', async (t) => {
  const { native, ws, gateway } = await startStage(t)
  const writer = await native()
  const reader = await native({ capabilities: { optOutNotificationMethods: ['thread/started', 'item/started'] } })
  const stranger = await native()
  const mute = await NativeClient.open(t, `ws://${gateway.address}/?userId=alice`)
  const browser = await ws()

  const threadId = await startThread(writer)
  await turnEnd(writer, await startTurn(writer, threadId, 'first'))
  await reader.call('thread/resume', { threadId, excludeTurns: true })
  const turnId = await startTurn(writer, threadId, 'hello')
  await Promise.all([turnEnd(writer, turnId), turnEnd(reader, turnId), browser.waitForTurnEnd(turnId)])

  await t.test('both see the turn, line by line what codex wrote', async (t) => {
    const events = browser.received.flatMap(({ type, payload }) => (type === 'event' ? [JSON.stringify(payload)] : []))
    const ofTurn = events.filter((text) => text.includes(turnId))
    t.ok(ofTurn.length >= 5)
    t.strictSame(
      writer.texts.filter((text) => text.includes(turnId) && text.includes('"method"')),
      ofTurn
    )
    const unwanted = /^\{"method":"item\/started"/
    t.strictSame(
      reader.texts.filter((text) => text.includes(turnId) && text.includes('"method"')),
      ofTurn.filter((text) => !unwanted.test(text))
    )
  })

  await t.test('replies are codex’s own and come before what they cause', async (t) => {
    const order = writer.texts.map((text) => Object.keys(JSON.parse(text)).join())
    t.ok(order.indexOf('id,result') < order.indexOf('method,params,emittedAtMs'))
    const started = writer.received.findIndex(
      ({ method, params }) => method === 'turn/started' && params.turn.id === turnId
    )
    const reply = writer.received.findIndex(({ result }) => result?.turn?.id === turnId)
    t.ok(reply !== -1 && reply < started)
    t.notOk(
      writer.texts.some((text) => text.includes('"turnId"') && text.startsWith('{"id"')),
      'nothing was added'
    )
  })

  await t.test('who has not subscribed hears what is for all', async (t) => {
    t.ok(methods(stranger).includes('thread/started') && methods(stranger).includes('thread/status/changed'))
    t.notOk(stranger.texts.some((text) => text.includes(turnId)))
    t.strictSame(
      methods(reader).filter((method) => method === 'thread/started'),
      []
    )
    t.strictSame(mute.received, [], 'who has not shaken hands hears nothing')
  })

  await t.test('unsubscribing is one client’s own business', async (t) => {
    const unsubscribe = (client: NativeClient) => client.call('thread/unsubscribe', { threadId })
    t.strictSame(await unsubscribe(stranger), { status: 'notSubscribed' })
    t.strictSame(await unsubscribe(reader), { status: 'unsubscribed' })
    t.strictSame(await unsubscribe(reader), { status: 'notSubscribed' })
    const next = await startTurn(reader, threadId, 'again')
    await Promise.all([turnEnd(writer, next), browser.waitForTurnEnd(next)])
    await reader.call('thread/loaded/list')
    t.notOk(reader.texts.some((text) => text.includes(next) && text.includes('"method"')))
  })

  await t.test('a fork is heard by who made it, from its beginning', async (t) => {
    const fork = (await writer.call('thread/fork', { threadId, excludeTurns: true })).thread.id
    // codex says this before its reply or behind it, as it comes.
    await writer.notified(
      'mcpServer/startupStatus/updated',
      (params) => params.threadId === fork && params.status === 'starting'
    )
    const turn = await startTurn(writer, fork, 'in the fork')
    await turnEnd(writer, turn)
    await reader.call('thread/loaded/list')
    t.notOk(reader.texts.some((text) => text.includes(turn)))
  })
})

t.test('approvals', async (t) => {
  const stage = await startStage(t)
  const { model, native, ws } = stage
  const outside = await scratchDirectory(t)
  const [first, second, browser] = [
    await native(),
    await native({ capabilities: { experimentalApi: false } }),
    await ws()
  ]
  const threadId = await startThread(first)
  await turnEnd(first, await startTurn(first, threadId, 'hello'))
  await second.call('thread/resume', { threadId })
  let files = 0
  const effect = () => join(outside, `file-${++files}`)
  const approvalOf = async (turnId: string) =>
    (await browser.waitFor('approval/request', (payload) => payload.turnId === turnId)).payload
  const resolved = async (approvalId: string) =>
    (await browser.waitFor('approval/resolved', (payload) => payload.approvalId === approvalId)).payload
  const resolvedBy = (client: NativeClient, { id, params }: NativeMessage) =>
    client.notified(
      'serverRequest/resolved',
      ({ requestId, threadId }) => requestId === id && threadId === params.threadId
    )

  await t.test('what the policy accepts is never asked', async (t) => {
    const turnId = await startTurn(first, threadId, model.script([escalate('ls')]))
    await turnEnd(first, turnId)
    t.notOk(first.received.some(isRequest))
    t.notOk(methods(first).includes('serverRequest/resolved'))
    await t.resolves(browser.waitFor('approval/resolved', ({ by }) => by.kind === 'policy'))
  })

  await t.test('the first answer counts, a late one does no harm, and everybody hears of it', async (t) => {
    const file = effect()
    const turnId = await startTurn(first, threadId, model.script([escalate(`touch ${file}`)]))
    const [question, other] = await Promise.all([asked(first, turnId), asked(second, turnId)])
    t.match(question, { method: 'item/commandExecution/requestApproval', id: Number, params: { threadId, turnId } })
    t.strictSame(Object.keys(question.params).slice(0, 4), ['kind', 'threadId', 'turnId', 'itemId'], 'codex’s own')
    t.equal(other.id, question.id)
    const { approvalId } = await approvalOf(turnId)
    second.answer(question, { decision: 'accept' })
    await Promise.all([resolvedBy(first, question), resolvedBy(second, question)])
    first.answer(question, { decision: 'cancel' })
    second.answer(question, { decision: 'cancel' })
    t.match(await resolved(approvalId), { outcome: 'accepted', by: { kind: 'user', id: 'alice' } })
    t.equal((await turnEnd(first, turnId)).params.turn.status, 'completed')
    t.ok(existsSync(file))
  })

  await t.test('an answer from the browser ends it here too', async (t) => {
    const file = effect()
    const turnId = await startTurn(first, threadId, model.script([escalate(`touch ${file}`)]))
    const question = await asked(first, turnId)
    await browser.call('approval/respond', { approvalId: (await approvalOf(turnId)).approvalId, decision: 'decline' })
    await Promise.all([resolvedBy(first, question), resolvedBy(second, question)])
    await turnEnd(first, turnId)
    t.notOk(existsSync(file))
  })

  await t.test('an amendment becomes a rule of the gateway for exactly this, and codex never hears it', async (t) => {
    const file = effect()
    const touch = () => startTurn(first, threadId, model.script([escalate(`touch ${file}`)]))
    const turnId = await touch()
    const question = await asked(first, turnId)
    t.strictSame(question.params.proposedExecpolicyAmendment, ['touch', file])
    first.answer(question, { decision: { acceptWithExecpolicyAmendment: { execpolicy_amendment: ['rm'] } } })
    t.match(await resolved((await approvalOf(turnId)).approvalId), { decision: 'acceptForSession', ruleId: String })
    await turnEnd(first, turnId)
    const rules = join(stage.gateway.dataDir, 'homes', userKey('alice'), 'codex', 'rules', 'default.rules')
    t.notMatch(await readFile(rules, 'utf8'), /"rm"\], *decision="allow"|pattern=\["rm"\]/)

    const again = await touch()
    await turnEnd(first, again)
    t.notOk(
      first.received.some((message) => isRequest(message) && message.params.turnId === again),
      'not asked again'
    )
    const other = await startTurn(first, threadId, model.script([escalate('rm -rf build')]))
    first.answer(await asked(first, other), { decision: 'decline' })
    await turnEnd(first, other)
  })

  await t.test('a refusal in any form is one', async (t) => {
    for (const answer of [
      { result: { decision: 'nonsense' } },
      { error: { code: -1, message: 'no' } },
      { result: null }
    ]) {
      const file = effect()
      const turnId = await startTurn(first, threadId, model.script([escalate(`touch ${file}`)]))
      const { id } = await asked(first, turnId)
      first.send({ id, ...answer })
      t.match(await resolved((await approvalOf(turnId)).approvalId), { outcome: 'declined', decision: 'decline' })
      t.match((await turnEnd(first, turnId)).params.turn.status, 'completed')
      t.notOk(existsSync(file))
    }
  })

  await t.test('one that waits is asked again of who resumes the thread, and is still one', async (t) => {
    const file = effect()
    const turnId = await startTurn(first, threadId, model.script([escalate(`touch ${file}`)]))
    const question = await asked(first, turnId)
    const { approvalId } = await approvalOf(turnId)
    const late = await native()
    await late.call('thread/resume', { threadId, excludeTurns: true })
    t.strictSame(await asked(late, turnId), question)
    const reply = late.received.findIndex(({ result }) => result?.thread)
    t.ok(reply < late.received.findIndex(isRequest), 'behind the reply')
    await browser.call('thread/resume', { threadId, excludeTurns: true })
    t.strictSame(
      browser.received.filter(({ type, payload }) => type === 'approval/request' && payload.turnId === turnId).length,
      1
    )
    t.strictSame(first.received.filter((message) => isRequest(message) && message.params.turnId === turnId).length, 1)
    late.answer(question, { decision: 'accept' })
    await Promise.all([resolvedBy(first, question), resolvedBy(late, question), turnEnd(late, turnId)])
    t.match(await resolved(approvalId), { outcome: 'accepted' })
    t.ok(existsSync(file))
  })

  await t.test('a codex that dies takes its questions with it', async (t) => {
    const turnId = await startTurn(first, threadId, model.script([escalate(`touch ${effect()}`)]))
    const question = await asked(first, turnId)
    t.ok((await signalCodex(stage.gateway.dataDir, 'SIGKILL')) > 0)
    await resolvedBy(first, question)
    t.equal((await turnEnd(first, turnId)).params.turn.status, 'interrupted')
    const next = await startTurn(first, threadId, 'are you there?')
    t.equal((await turnEnd(first, next)).params.turn.status, 'completed', 'and the next turn starts another')
  })
})

/** What a codex client says to accept each kind of question, and to refuse it. */
const ANSWERS: Record<string, { accept: object; refuse: object }> = {
  command: { accept: { decision: 'accept' }, refuse: { decision: 'decline' } },
  writeStdin: { accept: { decision: 'acceptForSession' }, refuse: { decision: 'decline' } },
  fileChange: { accept: { decision: 'accept' }, refuse: { decision: 'decline' } },
  permissions: { accept: { permissions: {}, scope: 'session' }, refuse: { permissions: {}, scope: 'turn' } },
  userInput: { accept: { answers: { q: { answers: ['violet'] } } }, refuse: { answers: {} } },
  elicitation: {
    accept: { action: 'accept', content: { colour: 'violet' }, _meta: null },
    refuse: { action: 'decline', content: null, _meta: null }
  },
  mcpToolCall: {
    accept: { action: 'accept', content: {}, _meta: { persist: 'always' } },
    refuse: { action: 'decline', content: null, _meta: null }
  },
  dynamicTool: {
    accept: { contentItems: [{ type: 'inputText', text: 'looked up' }], success: true },
    refuse: { contentItems: 'none' }
  }
}

t.test('every kind of question takes the answers of a codex client', async (t) => {
  const { native, model } = await startStage(t)
  const client = await native()
  const outside = await scratchDirectory(t)
  for (const [index, kind] of APPROVAL_CASES.entries()) {
    for (const way of ['accept', 'refuse'] as const) {
      const effect = join(outside, `effect-${index}-${way}`)
      const threadId = await startThread(client)
      const prompt = model.script(...kind.answers(effect))
      const turnId = await startTurn(client, threadId, prompt)
      if (kind.opensTerminal) {
        client.answer(await asked(client, turnId), { decision: 'accept' })
        await client.notified('serverRequest/resolved', (params) => params.threadId === threadId)
      }
      const isSecond = ({ params }: NativeMessage) => !kind.opensTerminal || params.kind === 'writeStdin'
      const question = await client.waitFor(
        (message) => isRequest(message) && message.params.turnId === turnId && isSecond(message),
        kind.title
      )
      const { permissions } = question.params
      const given = ANSWERS[kind.kind]?.[way] ?? {}
      client.answer(question, way === 'accept' && permissions ? { ...given, permissions } : given)
      await turnEnd(client, turnId)
      t.match(model.heard(prompt), kind.heard[way === 'accept' ? 'accept' : 'decline'], `${kind.title}: ${way}`)
      if (kind.hasEffect) t.equal(existsSync(effect), way === 'accept', kind.title)
    }
  }
})

t.test('a client that is gone in the middle of a turn comes back to the rest of it', async (t) => {
  const model = await startHeldModel(t)
  const { address } = await startGateway(t, { MODEL_BASE_URL: model.baseUrl, MODEL })
  const url = `ws://${address}/?userId=alice`
  const first = await NativeClient.connect(t, url)
  const threadId = (await first.call('thread/start')).thread.id
  const turnId = await startTurn(first, threadId, `before ${HOLD} after`)
  await first.notified('item/agentMessage/delta', ({ delta }) => delta.includes(HOLD))
  first.socket.terminate()

  const second = await NativeClient.connect(t, url)
  const { thread } = await second.call('thread/resume', { threadId, excludeTurns: true })
  t.match(thread.status, { type: 'active' })
  t.notOk(
    second.texts.some((text) => text.includes(turnId)),
    'nothing of what was'
  )
  model.release()
  await turnEnd(second, turnId)
  const deltas = second.received.filter(({ method }) => method === 'item/agentMessage/delta')
  t.equal(deltas.map(({ params }) => params.delta).join(''), 'after')
})

t.test('a client that stops reading gets every line and every reply later, in order', async (t) => {
  const { address } = await startGateway(t)
  const url = `ws://${address}/?userId=alice`
  const steady = await NativeClient.connect(t, url)
  const threadId = (await steady.call('thread/start')).thread.id
  await turnEnd(steady, await startTurn(steady, threadId, 'flood: 1'))
  const slow = await NativeClient.connect(t, url)
  await slow.call('thread/resume', { threadId, excludeTurns: true })
  const raw = (slow.socket as unknown as { _socket: Socket })._socket
  raw.pause()
  const turnId = await startTurn(steady, threadId, 'flood: 40000')
  await steady.notified('item/agentMessage/delta', ({ delta }) => delta === 'tok20000 ')
  const reply = slow.request('thread/loaded/list')
  await turnEnd(steady, turnId)
  raw.resume()
  await Promise.all([turnEnd(slow, turnId), reply])
  const ofTurn = (client: NativeClient) =>
    client.texts.filter((text) => text.includes(turnId) && text.includes('"method"'))
  t.equal(ofTurn(steady).length > 40_000, true)
  t.strictSame(ofTurn(slow), ofTurn(steady))
})

t.test('requests about a thread reach codex in the order in which they came', async (t) => {
  const { native } = await startStage(t)
  const client = await native()
  const threadId = await startThread(client)
  await turnEnd(client, await startTurn(client, threadId, 'hello'))
  const ids: string[] = []
  for (let round = 0; round < 5; round++) {
    // The first takes the gateway longer, as it has a path to look at; behind the second it would fail.
    for (const [method, params] of [
      ['thread/resume', { threadId, excludeTurns: true, cwd: '.' }],
      ['thread/archive', { threadId }],
      ['thread/unarchive', { threadId }]
    ] as const) {
      const id = `${method}-${round}`
      ids.push(id)
      client.send({ id, method, params })
    }
  }
  await Promise.all(ids.map((wanted) => client.waitFor(({ id }) => id === wanted, wanted)))
  const replies = client.received.filter(({ id }) => ids.includes(String(id)))
  t.strictSame(
    replies.map(({ id }) => id),
    ids
  )
  t.notOk(replies.some(({ error }) => error))
})

t.test('the door', async (t) => {
  const gateway = await startGateway(t, {
    JWT_SECRET: TEST_SECRET,
    HOST: '127.0.0.1',
    CORS_ORIGINS: 'https://good.example'
  })
  const { app, address } = gateway
  const url = `ws://${address}/`
  const headers = await bearer('alice')

  await t.test('opens to a token as a header, as a subprotocol and by a ticket', async (t) => {
    const ticket = (await app.inject({ method: 'POST', url: '/api/tickets', headers })).json().ticket
    const ways = [
      NativeClient.connect(t, url, { headers }),
      NativeClient.connect(t, url, { protocols: ['bearer', await tokenFor('alice')] }),
      NativeClient.connect(t, `${url}?ticket=${ticket}`)
    ]
    for (const client of await Promise.all(ways))
      t.strictSame(await client.call('thread/loaded/list'), { data: [], nextCursor: null })
    await t.rejects(NativeClient.open(t, `${url}?ticket=${ticket}`), /401/)
  })

  await t.test('and to nobody else', async (t) => {
    await t.rejects(NativeClient.open(t, url), /401/)
    await t.rejects(NativeClient.open(t, url, { headers: { authorization: 'Bearer no' } }), /401/)
    await t.rejects(NativeClient.open(t, `${url}?userId=bob`, { headers }), /403/)
    await t.rejects(NativeClient.open(t, url, { headers: { ...headers, origin: 'https://evil.example' } }), /403/)
    await t.resolves(NativeClient.open(t, url, { headers: { ...headers, origin: 'https://good.example' } }))
    await t.resolves(NativeClient.open(t, url, { headers: { ...headers, origin: `http://${address}` } }))
  })

  await t.test('a plain request learns what this is, without a token', async (t) => {
    const { statusCode, json } = await app.inject('/')
    t.equal(statusCode, 426)
    t.match(json(), { error: { code: 'CC_UPGRADE_REQUIRED' } })
    t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 404)
  })

  await t.test('a viewer looks and does not touch', async (t) => {
    const viewer = await NativeClient.connect(t, url, { headers: await bearer('alice', { roles: ['viewer'] }) })
    const owner = await NativeClient.connect(t, url, { headers })
    const threadId = (await owner.call('thread/start')).thread.id
    await viewer.notified('thread/started')
    t.match(await viewer.call('thread/list'), { data: Array })
    for (const [method, params] of [
      ['thread/start', {}],
      ['thread/resume', { threadId }],
      ['thread/unsubscribe', { threadId }],
      ['turn/start', { threadId, input: input('x') }]
    ] as const) {
      t.match(
        await viewer.request(method, params),
        { error: { code: -32601, data: { code: 'CC_METHOD_DENIED' } } },
        method
      )
    }
    const turn = await startTurn(owner, threadId, 'escalate: touch nothing')
    const question = await asked(owner, turn)
    viewer.answer(question, { decision: 'accept' })
    await viewer.call('thread/list')
    t.notOk(viewer.received.some(isRequest))
    owner.answer(question, { decision: 'decline' })
    t.match((await owner.notified('item/completed', ({ item }) => item.type === 'commandExecution')).params.item, {
      status: 'declined'
    })
    await turnEnd(owner, turn)
  })

  await t.test('users are apart', async (t) => {
    const [alice, bob] = [
      await NativeClient.connect(t, url, { headers }),
      await NativeClient.connect(t, url, { headers: await bearer('bob') })
    ]
    const threadId = (await alice.call('thread/start')).thread.id
    await turnEnd(alice, await startTurn(alice, threadId, 'secret'))
    t.match(await bob.request('thread/resume', { threadId }), { error: { code: -32600 } })
    t.strictSame((await bob.call('thread/list')).data, [])
    t.notOk(bob.texts.some((text) => text.includes('secret')))
  })

  await t.test('it closes with the token', async (t) => {
    const exp = Math.floor(Date.now() / 1000) + 2
    const client = await NativeClient.connect(t, url, { headers: await bearer('alice', { exp }) })
    const [code] = await once(client.socket, 'close')
    t.equal(code, 4401)
  })
})
