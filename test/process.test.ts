import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import t from 'tap'
import { startGateway } from './support/gateway.ts'
import { runServer } from './support/gateway-process.ts'
import { startModelServer } from './support/model-server.ts'
import { codexProcessesOf, eventually, processesOf, signalCodex, untilGone } from './support/processes.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

t.test('a codex process that is killed during a turn: told, on record, and the thread goes on', async (t) => {
  const { app, address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const first = await client.startTurn('remember the heron')
  await client.waitForTurnEnd(first.turnId)
  const second = await client.startTurn('escalate: touch never.txt', first.threadId)
  const { payload: approval } = await client.waitFor('approval/request')

  await signalCodex(dataDir, 'SIGKILL')
  const { payload: state } = await client.waitFor('session/state', ({ state }) => state === 'crashed')
  t.match(state.reason, /SIGKILL.*next request/)
  const { payload: resolved } = await client.waitFor('approval/resolved')
  const { approvalId } = approval
  t.match(resolved, { approvalId, outcome: 'orphaned', decision: null, by: { kind: 'codex' } })
  const { records } = (await app.inject('/api/audit?userId=alice')).json()
  t.match(records, [{ approvalId, turnId: second.turnId, outcome: 'orphaned', decision: null }])
  const late = await client.request('approval/respond', { approvalId, decision: 'accept' })
  t.match(late.payload, { code: 'CC_APPROVAL_RESOLVED', details: { outcome: 'orphaned' } })

  const third = await client.startTurn('and the bittern', first.threadId)
  const { payload } = await client.waitForTurnEnd(third.turnId)
  t.equal(payload.params.turn.status, 'completed')
  const { thread } = await client.call('thread/read', { threadId: first.threadId, includeTurns: true })
  t.strictSame(
    thread.turns.map(({ id, status }: { id: string; status: string }) => [id, status]),
    [
      [first.turnId, 'completed'],
      [second.turnId, 'interrupted'],
      [third.turnId, 'completed']
    ]
  )
  t.equal((await codexProcessesOf(dataDir)).length, 1)
})

t.test('with every slot taken /ws opens all the same; a slot is free again when its process is idle', async (t) => {
  const { app, address, dataDir } = await startGateway(t, { MAX_PROCESSES: '1', IDLE_TIMEOUT_MS: '500' })
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await alice.startTurn('escalate: touch x')
  const { payload } = await alice.waitFor('approval/request')

  const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
  const refused = await bob.request('thread/start', {})
  t.match(refused, { type: 'error', payload: { code: 'CC_POOL_FULL', details: { retryAfter: 5 } } })
  const rest = await app.inject({ url: '/api/threads', headers: { 'x-user-id': 'carol' } })
  t.equal(rest.statusCode, 503)
  t.equal(rest.headers['retry-after'], '5')
  t.match(rest.json(), { error: { code: 'CC_POOL_FULL' } })
  t.match((await app.inject('/ready')).json(), { processes: { running: 1, max: 1 } })

  await alice.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
  await alice.waitForTurnEnd(turnId)
  const isIdle = ({ state, reason }: { state: string; reason?: string }) => state === 'cold' && reason === 'idle'
  await alice.waitFor('session/state', isIdle)
  t.ok(await bob.call('thread/list', {}), 'bob gets the slot')
  await bob.waitFor('session/state', isIdle)

  const woken = await alice.startTurn('hello again', threadId)
  await alice.waitForTurnEnd(woken.turnId)
  // None, if it was put to sleep again by now.
  t.ok((await codexProcessesOf(dataDir)).length <= 1)
})

t.test('requests: a burst, one that meets a stopping process, one that codex does not answer', async (t) => {
  const { app, address, dataDir } = await startGateway(t, { REQUEST_TIMEOUT_MS: '3000' })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  // codex keeps a thread from its first turn on.
  const { threadId, turnId: firstTurnId } = await client.startTurn('hello')
  await client.waitForTurnEnd(firstTurnId)

  await t.test('500 requests at once on one socket are all answered', async (t) => {
    const answers = await Promise.all(
      Array.from({ length: 500 }, (_, index) => client.request(index % 2 ? 'thread/list' : 'model/list', {}))
    )
    t.equal(answers.filter(({ type }) => type === 'response').length, 500)
    t.equal(new Set(answers.map(({ requestId }) => requestId)).size, 500)
  })

  await t.test('a request that comes while the process stops waits for the next one', async (t) => {
    const [before] = await codexProcessesOf(dataDir)
    const stopping = app.sessions.find('alice')?.stopProcess('idle')
    t.match(await client.call('thread/read', { threadId }), { thread: { id: threadId } })
    await stopping
    const after = await codexProcessesOf(dataDir)
    t.equal(after.length, 1)
    t.not(after[0]?.pid, before?.pid)
  })

  await t.test('a codex that does not answer times the request out and can answer the next', async (t) => {
    await signalCodex(dataDir, 'SIGSTOP')
    const { payload } = await client.request('model/list', {})
    await signalCodex(dataDir, 'SIGCONT')
    t.match(payload, { code: 'CC_REQUEST_TIMEOUT', message: /"model\/list" within 3000 ms/ })
    t.ok(await client.call('thread/list', {}))
  })

  await t.test('stopping ends a frozen codex and a daemon that one of its commands started', async (t) => {
    const { turnId } = await client.startTurn(
      'escalate: (nohup setsid sleep 1005 >/dev/null 2>&1 &); echo done',
      threadId
    )
    const { payload } = await client.waitFor('approval/request', (approval) => approval.turnId === turnId)
    await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
    await client.waitForTurnEnd(turnId)
    await eventually('the daemon runs', 5_000, async () => {
      return (await processesOf(dataDir)).some(({ command }) => command === 'sleep 1005')
    })
    await signalCodex(dataDir, 'SIGSTOP')

    const startMs = Date.now()
    await app.sessions.find('alice')?.stopProcess('test')
    t.ok(Date.now() - startMs < 4_000, `stopped after ${Date.now() - startMs} ms`)
    await untilGone(dataDir, 500)
  })
})

t.test('a codex that does not start is a clear error for each request, and is started by requests alone', async (t) => {
  await t.test('one that ends at once', async (t) => {
    const { app, address } = await startGateway(t, { CODEX_BIN: 'test/support/fake-codex-failing.sh' })
    const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
    await client.waitFor('session/state', ({ state }) => state === 'failed')
    const startsFile = join(app.sessions.find('alice')?.directories.workspace ?? '', 'starts')
    const starts = async () => (await readFile(startsFile, 'utf8')).trim().split('\n').length
    t.equal(await starts(), 1)
    for (const expected of [2, 3]) {
      const { payload } = await client.request('thread/list', {})
      t.match(payload, { code: 'CC_PROCESS_START_FAILED', message: /code 3 \(a fatal error of the fake codex/ })
      t.notMatch(JSON.stringify(client.received), 'hunter2')
      t.equal(await starts(), expected)
    }
    t.match(await client.request('ping'), { type: 'pong' })
  })

  for (const name of ['garbage', 'silent']) {
    await t.test(`one that is ${name}`, async (t) => {
      const variables = { CODEX_BIN: `test/support/fake-codex-${name}.sh`, REQUEST_TIMEOUT_MS: '500' }
      const { app, dataDir } = await startGateway(t, variables)
      for (let attempt = 1; attempt <= 2; attempt++) {
        const response = await app.inject({ url: '/api/threads', headers: { 'x-user-id': 'alice' } })
        t.equal(response.statusCode, 502)
        t.match(response.json().error, { code: 'CC_PROCESS_START_FAILED', message: /"initialize" within 500 ms/ })
      }
      await untilGone(dataDir, 5_000)
    })
  }

  await t.test('one that does not tell its version keeps the gateway from booting', async (t) => {
    const { code, output } = await runServer(t, { CODEX_BIN: 'test/support/fake-codex-broken.sh' })
    t.equal(code, 1)
    t.match(output, /^cloud-codex: CC_CODEX_BINARY_UNUSABLE: .*fake-codex-broken\.sh.*CODEX_BIN/m)
  })
})

t.test(
  'nothing of the gateway’s environment reaches codex or its commands; the key reaches the model alone',
  async (t) => {
    const model = await startModelServer(t)
    const secrets = {
      OPENAI_API_KEY: 'sk-test-1f8b2c6e9d0a4735',
      JWT_SECRET: TEST_SECRET,
      AUDIT_KEY: 'audit-key-5d2e8f',
      FOO: 'an-arbitrary-secret-93ab'
    }
    const { app, address, dataDir } = await startGateway(t, { ...secrets, MODEL_BASE_URL: model.baseUrl })
    const client = await TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer('alice') })
    const { turnId } = await client.startTurn('run: env')
    const { payload } = await client.waitForEvent('item/completed', ({ item }) => item.type === 'commandExecution')
    const printed: string = payload.params.item.aggregatedOutput
    await client.waitForTurnEnd(turnId)

    t.match(printed, /^CLOUD_CODEX_PROCESS=/m, 'the command did print its environment')
    const [codex] = await codexProcessesOf(dataDir)
    for (const [name, value] of Object.entries(secrets)) {
      t.notMatch(printed, value, `${name} is not in the environment of commands`)
      t.notMatch(JSON.stringify(codex?.environment), value, `${name} is not in the environment of codex`)
      t.notOk(name in (codex?.environment ?? {}))
    }
    t.strictSame(
      Object.keys(codex?.environment ?? {})
        .filter((name) => process.env[name] === undefined)
        .sort(),
      [
        'CLOUD_CODEX_PROCESS',
        'CODEX_HOME',
        'CODEX_INTERNAL_APP_SERVER_REMOTE_CONTROL_DISABLED',
        'RUST_LOG',
        'TOKIO_WORKER_THREADS'
      ].filter((name) => process.env[name] === undefined)
    )

    t.ok(model.requests.length > 0)
    for (const { authorization } of model.requests) t.equal(authorization, `Bearer ${secrets.OPENAI_API_KEY}`)
    t.strictSame(await filesWith(dataDir, secrets.OPENAI_API_KEY), [])
    t.strictSame(await filesWith(dataDir, secrets.JWT_SECRET), [])

    const codexHome = app.sessions.find('alice')?.directories.codexHome ?? ''
    t.equal((await stat(codexHome)).mode & 0o777, 0o700)
    t.notOk((await readdir(codexHome)).includes('auth.json'))
    const config = await readFile(join(codexHome, 'config.toml'), 'utf8')
    for (const line of [
      'cli_auth_credentials_store = "ephemeral"',
      'approval_policy = "on-request"',
      'sandbox_mode = "workspace-write"',
      'inherit = "core"',
      'trust_level = "untrusted"'
    ]) {
      t.ok(config.split('\n').includes(line), line)
    }
  }
)

t.test('the MCP servers that a repository’s .codex/config.toml names are never started', async (t) => {
  const { app, address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await client.waitFor('session/state', ({ state }) => state === 'ready')
  const workspace = app.sessions.find('alice')?.directories.workspace ?? ''
  const proof = join(resolve(dataDir), 'planted-server-ran')
  for (const directory of ['.', 'repo', 'repo/deep', 'other']) {
    const planted = join(workspace, directory, '.codex')
    await mkdir(planted, { recursive: true })
    if (directory !== 'repo/deep') await mkdir(join(workspace, directory, '.git'), { recursive: true })
    const script = `touch ${proof}; exec cat`
    await writeFile(
      join(planted, 'config.toml'),
      `[mcp_servers.planted]\ncommand = "/bin/sh"\nargs = ["-c", ${JSON.stringify(script)}]\n`
    )
  }
  const ran = () =>
    stat(proof).then(
      () => true,
      () => false
    )

  const { threadId: top } = await client.call('thread/start', {})
  const { threadId: repo } = await client.call('thread/start', { workingDirectory: 'repo' })
  const { threadId: deep } = await client.call('thread/start', { workingDirectory: 'repo/deep' })
  for (const threadId of [top, repo, deep]) {
    await client.waitForTurnEnd((await client.startTurn('hello', threadId)).turnId)
  }
  t.notOk(await ran(), 'not by thread/start')

  const other = await client.call('turn/start', {
    threadId: top,
    workingDirectory: 'other',
    input: [{ type: 'text', text: 'run: true' }]
  })
  await client.waitForTurnEnd(other.turnId)
  t.notOk(await ran(), 'not by a turn with a directory of its own')

  await app.sessions.find('alice')?.stopProcess('test')
  for (const threadId of [repo, deep, top]) {
    await client.call('thread/resume', { threadId, excludeTurns: true })
    await client.waitForTurnEnd((await client.startTurn('hello', threadId)).turnId)
  }
  await client.call('thread/fork', { threadId: deep, excludeTurns: true })
  await app.sessions.find('alice')?.stopProcess('test')
  // Without a resume of the client's own: the gateway loads the threads.
  for (const threadId of [repo, deep]) await client.waitForTurnEnd((await client.startTurn('hello', threadId)).turnId)
  t.notOk(await ran(), 'not by loading a thread again')
})

/** The files under `directory` that contain `text`. */
async function filesWith(directory: string, text: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const found = await Promise.all(
    files.map(async (file) => ((await readFile(file).catch(() => Buffer.alloc(0))).includes(text) ? file : ''))
  )
  return found.filter((file) => file !== '')
}
