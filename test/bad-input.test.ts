import { once } from 'node:events'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { InjectOptions } from 'fastify'
import t from 'tap'
import { scratchDirectory, startGateway } from './support/gateway.ts'
import { runServer, startGatewayProcess } from './support/gateway-process.ts'
import { startModelServer } from './support/model-server.ts'
import { codexProcessesOf } from './support/processes.ts'
import { bearer, TEST_SECRET, tokenFor } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

t.test('on /ws', async (t) => {
  const { app, address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId } = await client.call('thread/start', {})
  const [codex] = await codexProcessesOf(dataDir)

  /** The next answer without a requestId: what the gateway says to a message that it cannot read. */
  const answerTo = async (message: string | Buffer) => {
    const known = new Set(client.received)
    client.socket.send(message)
    return client.waitForMessage((found) => !known.has(found) && found.type !== 'event', 'an answer')
  }

  await t.test('a message that is no JSON object', async (t) => {
    for (const text of ['', '{', 'nonsense', '{"type":"ping"', '{"type":"ping"}{"type":"ping"}', "{'type':'ping'}"]) {
      t.match(await answerTo(text), { type: 'error', payload: { code: 'CC_MALFORMED_MESSAGE' } }, text)
    }
    for (const text of ['[]', '[{"type":"ping"}]', 'null', '7', '"ping"', 'true', '{}', '{"type":7}', '{"type":""}']) {
      t.match(await answerTo(text), { type: 'error', payload: { code: 'CC_INVALID_MESSAGE' } }, text)
    }
    t.match(await answerTo(Buffer.from('{"type":"ping"}')), {
      type: 'error',
      payload: { code: 'CC_MALFORMED_MESSAGE', message: /binary.*send text/ }
    })
  })

  await t.test('an envelope with what does not belong there', async (t) => {
    for (const [message, path] of [
      ['{"type":"ping","extra":1}', '/extra'],
      ['{"type":"ping","payload":[]}', '/payload'],
      ['{"type":"ping","payload":"x"}', '/payload'],
      ['{"type":"ping","requestId":7}', '/requestId'],
      [`{"type":"ping","requestId":"${'x'.repeat(257)}"}`, '/requestId'],
      [`{"type":"${'x'.repeat(129)}"}`, '/type']
    ] as const) {
      const { type, payload } = await answerTo(message)
      t.match({ type, payload }, { type: 'error', payload: { code: 'CC_INVALID_MESSAGE' } })
      t.match(payload.details?.path ?? '', path === '/extra' ? /^(\/extra)?$/ : path, message.slice(0, 60))
    }
  })

  await t.test('an unknown or closed type', async (t) => {
    for (const type of ['thread/begin', '__proto__', 'constructor', 'initialize/x']) {
      t.match((await client.request(type, {})).payload, { code: 'CC_UNKNOWN_TYPE', message: new RegExp(type) })
    }
    for (const type of [
      'command/exec',
      'process/spawn',
      'config/value/write',
      'account/login/start',
      'account/logout'
    ]) {
      t.match((await client.request(type, {})).payload, { code: 'CC_METHOD_DENIED' }, type)
    }
  })

  await t.test('a payload that does not fit: the path says where', async (t) => {
    for (const [type, payload, path] of [
      ['thread/start', { model: 7 }, '/model'],
      ['thread/start', { surprise: true }, '/surprise'],
      ['thread/start', { cwd: '.', workingDirectory: '.' }, '/workingDirectory'],
      ['turn/start', { threadId, input: 7 }, '/input'],
      ['turn/start', { threadId, input: [{ type: 'text' }] }, '/input/0/text'],
      ['turn/start', { threadId, input: [{ type: 'localImage', path: '/etc/passwd' }] }, '/input/0/type'],
      ['turn/start', { input: 'hello' }, '/threadId'],
      ['turn/interrupt', { threadId, turnId: 'x'.repeat(300) }, '/turnId'],
      ['approval/respond', { approvalId: 'a', decision: 'perhaps' }, '/decision'],
      ['approval/respond', { approvalId: 'a', decision: 'accept', extra: 1 }, /^(\/extra)?$/],
      ['session/resume', { epoch: 'x', since: -1 }, '/since'],
      ['session/resume', { epoch: 'x', since: 1.5 }, '/since'],
      ['auth/refresh', { token: 7 }, '/token']
    ] as const) {
      const answer = await client.request(type, payload)
      t.match(
        answer.payload,
        { code: 'CC_INVALID_MESSAGE', details: { path } },
        JSON.stringify([type, payload]).slice(0, 90)
      )
    }
  })

  await t.test('text and nesting that codex would drop without an answer', async (t) => {
    let deep: unknown = 'x'
    for (let level = 0; level < 20_000; level++) deep = level % 2 ? [deep] : { deep }
    const text = JSON.stringify('hello')
    const nested = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
    client.send(`{"type":"turn/start","requestId":"deep","payload":{"threadId":${text},"outputSchema":${nested}}}`)
    const answer = await client.waitForMessage(({ requestId }) => requestId === 'deep', 'the answer')
    t.match(answer.payload, { code: 'CC_INVALID_MESSAGE', message: /nests/ })
    const approval = { approvalId: 'a', decision: 'accept', content: JSON.parse(nested.slice(19_000, 21_000)) }
    t.match((await client.request('approval/respond', approval)).payload, { code: 'CC_INVALID_MESSAGE' })

    const half = await client.startTurn('half a pair: \ud83d, a pair: 😀, a backslash: \\ud83d', threadId)
    await client.waitForTurnEnd(half.turnId)
    const { payload } = await client.waitForEvent('item/completed', ({ item }) => item.type === 'userMessage')
    t.equal(payload.params.item.content[0].text, 'half a pair: \ufffd, a pair: 😀, a backslash: \\ud83d')
  })

  await t.test('a directory that is not inside the workspace', async (t) => {
    const workspace = app.sessions.find('alice')?.directories.workspace ?? ''
    await mkdir(join(workspace, 'inside'))
    await writeFile(join(workspace, 'file'), '')
    await symlink('/etc', join(workspace, 'out'))
    await symlink('/nonexistent/target', join(workspace, 'dangling'))
    await symlink('inside', join(workspace, 'in'))
    await symlink('loop', join(workspace, 'loop'))
    const bad = ['/', '/etc', '..', 'inside/../..', `${workspace}/../x`, `${workspace}x`, 'out', 'out/x', 'dangling']
    for (const workingDirectory of [...bad, 'dangling/x', 'file', 'file/x', 'loop', 'file://etc', '~root/../..']) {
      const { payload } = await client.request('thread/start', { workingDirectory })
      t.match(payload, { code: 'CC_OUTSIDE_WORKSPACE', message: /workspace/ }, workingDirectory)
    }
    t.match((await client.request('thread/start', { cwd: 'a\0b' })).payload, { code: 'CC_INVALID_MESSAGE' }, 'a NUL')
    t.match((await client.request('thread/start', { cwd: 'x/'.repeat(2500) })).payload, { code: 'CC_INVALID_MESSAGE' })
    t.match((await client.request('thread/start', { cwd: 'y'.repeat(300) })).payload, { code: 'CC_OUTSIDE_WORKSPACE' })
    for (const workingDirectory of [
      '.',
      'in',
      'inside',
      'made/on/the/way',
      workspace,
      `${workspace}/inside/../inside`
    ]) {
      t.ok((await client.call('thread/start', { workingDirectory })).threadId, workingDirectory)
    }
  })

  await t.test('an id that is nobody’s', async (t) => {
    const none = '01a203b7-0000-7000-8000-000000000000'
    t.match((await client.request('thread/read', { threadId: none })).payload, { code: 'CC_NOT_FOUND' })
    t.match((await client.request('thread/read', { threadId: '../../etc/passwd' })).payload, { code: 'CC_NOT_FOUND' })
    t.match((await client.request('approval/respond', { approvalId: 'appr_x', decision: 'accept' })).payload, {
      code: 'CC_APPROVAL_NOT_FOUND'
    })
  })

  await t.test(
    'a message over the soft limit is refused, one over the hard limit closes its socket alone',
    async (t) => {
      const large = await answerTo(`{"type":"ping","payload":{"x":"${'x'.repeat(17 * 1024 * 1024)}"}}`)
      t.match(large, { type: 'error', payload: { code: 'CC_TOO_LARGE', message: /16777216/ } })
      const fill = `{"x":"${'x'.repeat(17 * 1024 * 1024)}","requestId":"not this"}`
      for (const [text, requestId] of [
        [`{"requestId":"first","payload":${fill}}`, 'first'],
        [`{ "type": "ping", "requestId": "aft\\"er", "payload": ${fill} }`, 'aft"er'],
        [`{"type":"ping","payload":${fill},"requestId":"last"}\n`, 'last'],
        [`{"type":"ping","payload":${fill}}`, undefined],
        [`{"type":"ping","payload":${fill},"requestId":7}`, undefined]
      ] as const) {
        const refused = await answerTo(text)
        t.match({ ...refused, id: refused.requestId }, { payload: { code: 'CC_TOO_LARGE' }, id: requestId })
      }

      const other = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
      other.socket.send('x'.repeat(33 * 1024 * 1024))
      const [code] = await once(other.socket, 'close')
      t.equal(code, 1009)
    }
  )

  await t.test('after all that the same socket, thread and process go on', async (t) => {
    t.match(await client.request('ping'), { type: 'pong' })
    await client.waitForTurnEnd((await client.startTurn('hello', threadId)).turnId)
    t.equal((await codexProcessesOf(dataDir))[0]?.pid, codex?.pid)
    t.notOk(client.received.some(({ payload }) => payload?.code === 'CC_INTERNAL'))
  })
})

t.test('over REST', async (t) => {
  const { app } = await startGateway(t)
  const headers = { 'x-user-id': 'alice' }
  const { threadId } = (await app.inject({ method: 'POST', url: '/api/threads', headers, payload: {} })).json()
  const json = { ...headers, 'content-type': 'application/json' }
  const post = { method: 'POST', headers } as const

  for (const [name, options, statusCode, code, path] of [
    ['malformed JSON', { ...post, url: '/api/threads', headers: json, payload: '{' }, 400, 'CC_BAD_REQUEST'],
    ['an array', { ...post, url: '/api/threads', payload: [] }, 400, 'CC_VALIDATION', 'body'],
    [
      'another content type',
      { ...post, url: '/api/threads', headers: { ...headers, 'content-type': 'text/xml' }, payload: '<a/>' },
      415,
      'CC_BAD_REQUEST'
    ],
    ['a wrong type', { ...post, url: '/api/threads', payload: { model: 7 } }, 400, 'CC_VALIDATION', 'body/model'],
    ['an unknown field', { ...post, url: '/api/threads', payload: { surprise: 1 } }, 400, 'CC_VALIDATION', /^body/],
    [
      'a directory outside',
      { ...post, url: '/api/threads', payload: { cwd: '/etc' } },
      400,
      'CC_OUTSIDE_WORKSPACE',
      '/cwd'
    ],
    ['a turn without input', { ...post, url: `/api/threads/${threadId}/turns`, payload: {} }, 400, 'CC_VALIDATION'],
    ['an unknown thread', { headers, url: '/api/threads/nope' }, 404, 'CC_NOT_FOUND'],
    [
      'an id that is too long',
      { headers, url: `/api/threads/${'x'.repeat(90)}${'y'.repeat(200)}` },
      400,
      'CC_VALIDATION',
      'params/threadId'
    ],
    ['a query out of range', { headers, url: '/api/threads?limit=0' }, 400, 'CC_VALIDATION', 'querystring/limit'],
    [
      'a query that is no number',
      { headers, url: '/api/threads?limit=many' },
      400,
      'CC_VALIDATION',
      'querystring/limit'
    ],
    ['an unknown query field', { headers, url: '/api/threads?surprise=1' }, 400, 'CC_VALIDATION', /^querystring/],
    ['a bad cursor', { headers, url: '/api/audit?cursor=%00' }, 400, 'CC_VALIDATION', 'querystring/cursor'],
    ['a cursor of nobody', { headers, url: '/api/audit?cursor=abc' }, 400, /^CC_/],
    [
      'an unknown approval',
      { ...post, url: '/api/approvals/x/respond', payload: { decision: 'accept' } },
      404,
      'CC_APPROVAL_NOT_FOUND'
    ],
    [
      'an unknown decision',
      { ...post, url: '/api/approvals/x/respond', payload: { decision: 'maybe' } },
      400,
      'CC_VALIDATION',
      'body/decision'
    ],
    ['no user', { url: '/api/threads' }, 401, 'CC_UNAUTHORIZED'],
    ['an invalid user', { url: '/api/threads?userId=a/b' }, 400, 'CC_INVALID_USER_ID'],
    ['an empty user', { url: '/api/threads', headers: { 'x-user-id': '' } }, 400, 'CC_INVALID_USER_ID'],
    ['two users', { headers, url: '/api/threads?userId=bob' }, 403, 'CC_FORBIDDEN'],
    ['an unknown route', { headers, url: '/api/nothing' }, 404, 'CC_NOT_FOUND'],
    ['an unknown method', { headers, url: '/api/threads', method: 'DELETE' }, 404, 'CC_NOT_FOUND'],
    ['a bad escape', { headers, url: '/api/threads/%ff%fe%' }, 400, 'CC_BAD_REQUEST'],
    ['a plain GET of /ws', { url: '/ws?userId=alice' }, 426, 'CC_UPGRADE_REQUIRED']
  ] as [string, InjectOptions, number, string | RegExp, (string | RegExp)?][]) {
    await t.test(name, async (t) => {
      const response = await app.inject(options)
      t.equal(response.statusCode, statusCode, response.body)
      const { error } = response.json()
      t.match(error, { code, message: /\w/ })
      if (path) t.match(error.details?.path, path)
    })
  }
  await t.test('a body over the limit', async (t) => {
    const response = await app.inject({
      ...post,
      url: '/api/threads',
      payload: { model: 'x'.repeat(17 * 1024 * 1024) }
    })
    t.equal(response.statusCode, 413)
    t.match(response.json(), { error: { code: 'CC_TOO_LARGE' } })
  })
  t.equal((await app.inject({ headers, url: '/api/threads' })).statusCode, 200, 'and all is well after it')
})

t.test('a page of another site reaches nothing, in development mode not even by a name that points here', async (t) => {
  const { app, address } = await startGateway(t, { CORS_ORIGINS: 'https://console.example' })
  const headers = { 'x-user-id': 'alice', host: address }
  const url = `ws://${address}/ws?userId=alice`
  const post = { method: 'POST', url: '/api/threads', payload: {} } as const
  const refused = { error: { code: 'CC_ORIGIN_DENIED', message: /CORS_ORIGINS/ } }

  for (const origin of ['https://evil.example', 'null', `https://${address}.evil.example`, 'http://127.0.0.1:1', 'x']) {
    const response = await app.inject({ ...post, headers: { ...headers, origin } })
    t.equal(response.statusCode, 403, origin)
    t.match(response.json(), refused)
    await t.rejects(TestClient.connect(t, url, { headers: { origin } }), new Error('HTTP 403'), origin)
  }
  for (const origin of [`http://${address}`, 'https://console.example']) {
    t.equal((await app.inject({ ...post, headers: { ...headers, origin } })).statusCode, 201, origin)
    t.ok(await TestClient.connect(t, url, { headers: { origin } }))
  }
  for (const host of ['evil.example', `evil.example:${address.split(':')[1]}`, '127.0.0.1.evil.example', '10.0.0.1']) {
    const response = await app.inject({ url: '/api/threads', headers: { ...headers, host } })
    t.equal(response.statusCode, 403, host)
    t.match(response.json(), { error: { code: 'CC_HOST_DENIED' } })
    const rebound = { host, origin: `http://${host}` }
    await t.rejects(TestClient.connect(t, url, { headers: rebound }), new Error('HTTP 403'))
  }
  for (const host of ['localhost:3000', '[::1]:3000', '127.0.0.1', '127.9.9.9:1']) {
    t.equal((await app.inject({ url: '/health', headers: { host } })).statusCode, 200, host)
  }
})

t.test('what keeps the gateway from booting is one line that names its mend', async (t) => {
  const busy = createServer().listen(0, '127.0.0.1')
  await once(busy, 'listening')
  t.teardown(() => busy.close())
  const { port } = busy.address() as { port: number }
  const directory = await scratchDirectory(t)
  const policy = join(directory, 'policy.json')
  await writeFile(policy, '{\n  "timeoutMs": 1000,\n  "autoApprove": { "commands": "ls" }\n}\n')

  for (const [name, variables, expected] of [
    ['a missing codex binary', { CODEX_BIN: '/no/codex' }, /CC_CODEX_BINARY_MISSING: .*"\/no\/codex".*CODEX_BIN/],
    ['a port in use', { PORT: String(port) }, new RegExp(`CC_PORT_IN_USE: Port ${port} .*set PORT`)]
  ] as [string, Record<string, string>, RegExp][]) {
    await t.test(name, async (t) => {
      const { code, output } = await runServer(t, { LOG_LEVEL: 'warn', ...variables })
      t.equal(code, 1)
      t.match(output.trim().split('\n').at(-1), expected)
      t.match(output, /^cloud-codex: CC_/m)
      t.notMatch(output, /^ {4}at /m, 'no stack')
    })
  }
  for (const [name, variables, code, message] of [
    ['a broken policy file', { POLICY_FILE: policy }, 'CC_POLICY_INVALID', /policy\.json.*(line 3|:3)/],
    ['a missing policy file', { POLICY_FILE: '/no/policy.json' }, 'CC_POLICY_INVALID', /\/no\/policy\.json/],
    ['no Redis there', { REDIS_URL: 'redis://u:hunter2@127.0.0.1:1' }, 'CC_STORE_UNAVAILABLE', /^((?!hunter2).)*$/]
  ] as [string, Record<string, string>, string, RegExp][]) {
    await t.test(name, (t) => t.rejects(startGateway(t, variables), { code, message }))
  }
})

t.test('no token is in the log or in an error, however it was sent', async (t) => {
  const key = 'sk-proj-0123456789abcdefghijklmnop'
  const { baseUrl } = await startModelServer(t)
  const variables = { JWT_SECRET: TEST_SECRET, OPENAI_API_KEY: key, MODEL_BASE_URL: baseUrl }
  const { address, output, child, exited } = await startGatewayProcess(t, { ...variables, LOG_LEVEL: 'trace' })
  const good = await tokenFor('alice')
  const forged = await tokenFor('alice', {}, 'another secret of the same fine length')
  const ticketFor = async () => {
    const response = await fetch(`http://${address}/api/tickets`, { method: 'POST', headers: await bearer('alice') })
    return ((await response.json()) as { ticket: string }).ticket
  }
  const ticket = await ticketFor()
  const answers: string[] = []
  for (const token of [good, forged]) {
    for (const name of ['token', 'access_token', 'jwt', 'ticket', 'userId']) {
      answers.push(await (await fetch(`http://${address}/api/threads?${name}=${token}`)).text())
      answers.push(await (await fetch(`http://${address}/api/threads/${token}?${name}=${token}`)).text())
      await TestClient.connect(t, `ws://${address}/ws?${name}=${token}`).catch(({ body }) => answers.push(body))
    }
    answers.push(
      await (await fetch(`http://${address}/api/threads`, { headers: { authorization: `Bearer ${token}x` } })).text()
    )
  }
  const client = await TestClient.connect(t, `ws://${address}/ws`, { protocols: ['bearer', good] })
  t.equal(client.socket.protocol, 'bearer')
  t.match(await client.request('auth/refresh', { token: forged }), { payload: { code: 'CC_UNAUTHORIZED' } })
  t.ok(await client.call('auth/refresh', { token: good }))
  await TestClient.connect(t, `ws://${address}/ws?ticket=${ticket}`)
  const { turnId } = await client.startTurn('hello')
  await client.waitForTurnEnd(turnId)
  child.kill('SIGTERM')
  await exited

  t.match(output(), '/ws', 'the log is written')
  const errors = answers.filter((text) => !text.includes('"CC_NOT_FOUND"')).join('\n')
  for (const [name, secret] of Object.entries({ good, forged, ticket, key, jwtSecret: TEST_SECRET })) {
    const end = secret.split('.').at(-1) ?? ''
    t.notOk(output().includes(end), `${name} is not in the log`)
    t.notOk(JSON.stringify(client.received).includes(end), `${name} is in no message`)
    t.notOk(errors.includes(end), `${name} is in no error`)
  }
})
