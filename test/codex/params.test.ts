import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isAbsolute, join, normalize } from 'node:path'
import t from 'tap'
import { OutsideWorkspace } from '../../errors.ts'
import type { Role } from '../../schemas/common.ts'
import type { OpenMethod } from '../../src/codex/method-row.ts'
import { METHODS } from '../../src/codex/methods.ts'
import { checkReply, type GuardRequest, guardParams } from '../../src/codex/params.ts'
import { binaryRequests, type JsonSchema, scratchDirectory } from '../support/codex-schema.ts'
import { diffSchemas } from '../support/schema-diff.ts'
import { prepareHome, type StdioCodex, type StdioReply, startCodex } from '../support/stdio-codex.ts'

const OPEN_METHODS = [...METHODS.values()].filter((row): row is OpenMethod => row.action !== 'deny')

/** Confines by text alone: what the session does with real directories is tested with the session. */
function confineTo(workspace: string, made: string[] = []) {
  const resolvePath = async (path: string) => {
    const full = isAbsolute(path) ? normalize(path) : join(workspace, path)
    if (full !== workspace && !full.startsWith(`${workspace}/`)) throw new OutsideWorkspace(path)
    return full
  }
  const resolveDirectory = async (path: string) => {
    const full = await resolvePath(path)
    made.push(full)
    return full
  }
  return { resolvePath, resolveDirectory }
}

/** As a user, in on-request mode, on /ws, in /workspace. */
async function call(method: string, request?: unknown, rest: Partial<GuardRequest> = {}) {
  const base = { method, params: request, mode: 'on-request', ...confineTo('/workspace') } as const
  const { params, dropped } = await guardParams({ ...base, roles: ['user'], ...rest })
  return { params, dropped }
}

const TURN_POLICY = {
  approvalPolicy: 'on-request',
  approvalsReviewer: 'user',
  sandboxPolicy: {
    type: 'workspaceWrite',
    writableRoots: [],
    networkAccess: false,
    excludeTmpdirEnvVar: true,
    excludeSlashTmp: true
  }
}

const THREAD_POLICY = { approvalPolicy: 'on-request', approvalsReviewer: 'user', sandbox: 'workspace-write' }

/** Differences from the pinned binary that somebody has looked at. Anything else fails the test. */
const TAKES_INPUT = ['turn/start', 'turn/steer', 'thread/queue/add', 'thread/queue/update']
const TAKES_DIRECTORY = ['thread/start', 'thread/resume', 'thread/fork', 'turn/start']
const REVIEWED = [
  // our conveniences
  ...TAKES_DIRECTORY.map((method) => `${method}: field workingDirectory only here`),
  ...TAKES_INPUT.map((method) => `${method}/input: type string only here`),
  // not opened: files of the host, files uploaded elsewhere, audio
  ...TAKES_INPUT.flatMap((method) => [
    `${method}/input/*: kind localImage only there`,
    `${method}/input/*: kind localAudio only there`,
    `${method}/input/*: kind audio only there`,
    `${method}/input/*#image: field fileId only there`
  ]),
  // takes no params at all, and an empty object as well (the last test asks the binary)
  'configRequirements/read: kind  only here',
  'configRequirements/read: type object only here'
]

t.test('the schemas differ from the binary’s own only where somebody decided so', (t) => {
  const requests = binaryRequests(t)
  const lines = OPEN_METHODS.flatMap((row) => {
    const theirs = requests.oneOf?.find((request) => request.properties?.method?.enum?.[0] === row.method)
    const params = theirs?.properties?.params
    if (params === undefined) throw new Error(`the binary has no params for ${row.method}`)
    return diffSchemas(row.method, row.params as JsonSchema, params, requests.definitions ?? {})
  })
  t.same(lines.sort(), [...REVIEWED].sort())
  t.end()
})

t.test('each field that a role may not set exists in its method’s schema', (t) => {
  for (const { method, params, roleFields } of OPEN_METHODS) {
    for (const field of Object.keys(roleFields)) {
      const top = field.startsWith('/') ? (field.split('/')[1] ?? '') : field
      t.ok(Object.hasOwn(params.properties, top), `${method} ${field}`)
    }
  }
  t.end()
})

t.test('a thread runs under the gateway’s policy, whatever the client asks for', async (t) => {
  const asked = {
    approvalPolicy: 'never',
    approvalsReviewer: 'auto_review',
    sandbox: 'danger-full-access',
    permissions: ':danger-full-access',
    config: { 'mcp_servers.x.command': 'id' },
    runtimeWorkspaceRoots: ['/'],
    modelProvider: 'mine',
    baseInstructions: 'obey'
  }
  const methods: [string, object, string[]][] = [
    ['thread/start', { environments: [], selectedCapabilityRoots: [], dynamicTools: [] }, []],
    ['thread/resume', { path: '/etc/passwd', history: [] }, ['threadId']],
    ['thread/fork', { path: '/etc/passwd' }, ['threadId']]
  ]
  for (const [method, more, kept] of methods) {
    const sent = { ...asked, ...more, ...Object.fromEntries(kept.map((field) => [field, 'x'])), cwd: 'app' }
    const copy = structuredClone(sent)
    const { params, dropped } = await call(method, sent)
    const config = { projects: { '/workspace/app': { trust_level: 'untrusted' } } }
    const ids = Object.fromEntries(kept.map((field) => [field, 'x']))
    t.strictSame(params, { ...ids, cwd: '/workspace/app', ...THREAD_POLICY, config }, method)
    t.same(dropped.sort(), [...Object.keys(asked), ...Object.keys(more)].sort(), method)
    t.strictSame(sent, copy, 'what the client sent is not altered')
  }
})

t.test('every turn carries the whole policy, because codex would keep an older one', async (t) => {
  const plain = await call('turn/start', { threadId: 'x', input: 'hello' })
  const input = [{ type: 'text', text: 'hello', text_elements: [] }]
  t.strictSame(plain, { params: { threadId: 'x', input, ...TURN_POLICY }, dropped: [] })

  const asked = {
    approvalPolicy: { granular: { mcp_elicitations: false, rules: false, sandbox_approval: false } },
    approvalsReviewer: 'guardian_subagent',
    sandboxPolicy: { type: 'dangerFullAccess' },
    permissions: 'x',
    environments: [],
    runtimeWorkspaceRoots: ['/'],
    cyberAccessProgram: 'daybreakRed',
    toolOutput: { name: 'shell', output: 'done' },
    responsesapiClientMetadata: {},
    responsesapiClientMetadataPatch: {}
  }
  const { params, dropped } = await call('turn/start', { threadId: 'x', input: 'hello', ...asked })
  t.strictSame(params, plain.params)
  t.same(dropped.sort(), Object.keys(asked).sort())
})

t.test('strict mode has codex ask for every command', async (t) => {
  const strict = { mode: 'strict' } as const
  t.match(await call('thread/start', {}, strict), { params: { ...THREAD_POLICY, approvalPolicy: 'untrusted' } })
  const { params } = await call('turn/start', { threadId: 'x', input: 'hi' }, strict)
  t.match(params, { ...TURN_POLICY, approvalPolicy: 'untrusted' })
})

t.test('no role moves the policy; an admin may replace the base instructions', async (t) => {
  const governed = {
    approvalPolicy: 'never',
    sandbox: 'danger-full-access',
    config: {},
    approvalsReviewer: 'auto_review'
  }
  const sent = { ...governed, baseInstructions: 'base', developerInstructions: 'dev' }
  for (const role of ['user', 'service', 'approver', 'admin'] satisfies Role[]) {
    const { params, dropped } = await call('thread/start', sent, { roles: [role] })
    const admin = role === 'admin'
    t.match(params, { ...THREAD_POLICY, developerInstructions: 'dev' }, role)
    t.equal(params.baseInstructions, admin ? 'base' : undefined, role)
    t.same(dropped.sort(), [...Object.keys(governed), ...(admin ? [] : ['baseInstructions'])].sort(), role)
  }
})

t.test('dynamic tools pass only from a client that answers their calls', async (t) => {
  const dynamicTools = [{ type: 'function', name: 'f', description: 'd', inputSchema: { type: 'object' } }]
  t.same((await call('thread/start', { dynamicTools })).dropped, ['dynamicTools'])
  const { params, dropped } = await call('thread/start', { dynamicTools }, { answersToolCalls: true })
  t.same(params.dynamicTools, dynamicTools)
  t.same(dropped, [])
})

t.test('a null is "not set": it is dropped without a word', async (t) => {
  const { params, dropped } = await call('thread/start', { approvalPolicy: null, config: null, cwd: null, model: null })
  t.same(dropped, [])
  t.match(params, { ...THREAD_POLICY, cwd: '/workspace', model: null })
})

t.test('a nested field is dropped under its pointer, and the client’s own object stays whole', async (t) => {
  const sent = {
    clientInfo: { name: 'c', version: '1' },
    capabilities: { experimentalApi: true, requestAttestation: true }
  }
  const { params, dropped } = await call('initialize', sent)
  t.strictSame(params.capabilities, { experimentalApi: true })
  t.same(dropped, ['/capabilities/requestAttestation'])
  t.equal(sent.capabilities.requestAttestation, true)
})

t.test('what fits no schema is refused, and the answer points at it', async (t) => {
  const thread = { threadId: 'x' }
  const text = { type: 'text', text: 'hi' }
  const mode = (settings: object) => ({ ...thread, input: 'x', collaborationMode: { mode: 'plan', settings } })
  const faults: [string, unknown, string][] = [
    ['thread/start', { approval_policy: 'never' }, '/approval_policy'],
    ['thread/start', JSON.parse('{"__proto__":{"cwd":"/etc"}}'), '/__proto__'],
    ['thread/start', { 'a/b~c': 1 }, '/a~1b~0c'],
    ['thread/start', [], ''],
    ['thread/start', 'now', ''],
    ['thread/start', { cwd: 'a', workingDirectory: 'b' }, '/workingDirectory'],
    ['thread/start', { workingDirectory: 7 }, '/workingDirectory'],
    ['thread/start', { cwd: 'a\u0000b' }, '/cwd'],
    ['thread/start', { cwd: 'a'.repeat(4097) }, '/cwd'],
    ['thread/start', { model: 'm'.repeat(257) }, '/model'],
    ['thread/read', {}, '/threadId'],
    ['thread/read', undefined, '/threadId'],
    ['thread/list', { limit: 1.5 }, '/limit'],
    ['thread/list', { limit: 1001 }, '/limit'],
    ['thread/items/read', { ...thread, turnId: 'y', itemIds: Array(101).fill('i') }, '/itemIds'],
    ['thread/goal/set', { ...thread, tokenBudget: 1e21 }, '/tokenBudget'],
    ['turn/start', { ...thread, input: 'x'.repeat(1_048_577) }, '/input'],
    ['turn/start', { ...thread, input: [text, { type: 'text', text: 7 }] }, '/input/1/text'],
    ['turn/start', { ...thread, input: [{ ...text, textElements: [] }] }, '/input/0/textElements'],
    ['turn/start', { ...thread, input: Array(129).fill(text) }, '/input'],
    ['turn/start', { ...thread, input: 7 }, '/input'],
    [
      'turn/start',
      mode({ model: 'm', developerInstructions: 'x' }),
      '/collaborationMode/settings/developerInstructions'
    ],
    ['turn/start', { ...thread, input: 'x', additionalContext: { 'a\nb': { evil: 1 } } }, '/additionalContext/a\nb'],
    ['review/start', { ...thread, target: { type: 'baseBranch', branch: '--exec=id' } }, '/target/branch'],
    ['review/start', { ...thread, target: { type: 'commit', sha: 'HEAD' } }, '/target/sha']
  ]
  for (const [method, params, path] of faults) {
    const label = `${method} ${JSON.stringify(params)?.slice(0, 80)}`
    await t.rejects(call(method, params), { code: 'CC_INVALID_MESSAGE', details: { method, path } }, label)
  }
})

t.test('an error repeats only so much of what a hostile client wrote', async (t) => {
  for (const [method, params] of [
    ['m'.repeat(100_000), {}] as const,
    ['thread/start', { ['f'.repeat(100_000)]: 1 }] as const
  ]) {
    const error = await call(method, params).then(
      () => t.fail('passed'),
      (error: Error) => error
    )
    t.ok(JSON.stringify({ ...(error as Error), message: (error as Error).message }).length < 2000)
  }
})

t.test('the native door drops unknown fields instead, and still refuses wrong values', async (t) => {
  const lenient = { lenient: true }
  t.same((await call('thread/start', { futureField: 1, sandbox: 'read-only' }, lenient)).dropped.sort(), [
    'futureField',
    'sandbox'
  ])
  await t.rejects(call('thread/start', { futureField: 1, model: 7 }, lenient), {
    code: /./,
    details: { path: '/model' }
  })
  const outside = await call('skills/list', { cwds: ['/home/me/project'] }, lenient)
  t.same(outside, { params: { cwds: ['/workspace'] }, dropped: ['/cwds/0'] })
  t.same(await call('thread/list', { cwd: '/home/me' }, lenient), { params: { cwd: null }, dropped: ['cwd'] })
  await t.rejects(call('turn/start', { threadId: 'x', input: 'x', cwd: '/etc' }, lenient), {
    code: 'CC_OUTSIDE_WORKSPACE'
  })
})

t.test('a working directory is confined and made, under either name', async (t) => {
  const made: string[] = []
  const paths = confineTo('/workspace', made)
  for (const field of ['cwd', 'workingDirectory']) {
    for (const method of TAKES_DIRECTORY) {
      const rest =
        method === 'thread/start' ? {} : { threadId: 'x', ...(method === 'turn/start' ? { input: 'x' } : {}) }
      const { params } = await call(method, { ...rest, [field]: 'app/../lib' }, paths)
      t.equal(params.cwd, '/workspace/lib', `${method} ${field}`)
      t.notOk(Object.hasOwn(params, 'workingDirectory'))
      for (const path of ['..', '../other', 'a/../../other', '/', '/etc', '/workspace-2', 'file:///etc']) {
        const refused = { code: 'CC_OUTSIDE_WORKSPACE', details: { method, path: '/cwd' } }
        await t.rejects(call(method, { ...rest, [field]: path }, paths), refused, `${method} ${field} ${path}`)
      }
    }
  }
  t.same(new Set(made), new Set(['/workspace/lib']))
  t.equal((await call('thread/start', undefined, paths)).params.cwd, '/workspace')
  t.notOk(
    Object.hasOwn((await call('thread/resume', { threadId: 'x' }, paths)).params, 'cwd'),
    'a thread keeps its own'
  )
})

t.test('a filter by directory is confined and makes nothing', async (t) => {
  const made: string[] = []
  const paths = { ...confineTo('/workspace', made), roles: ['admin'] as Role[] }
  t.same((await call('thread/list', { cwd: 'a' }, paths)).params, { cwd: '/workspace/a' })
  t.same((await call('thread/list', { cwd: ['a', '/workspace/b'] }, paths)).params, {
    cwd: ['/workspace/a', '/workspace/b']
  })
  t.same((await call('thread/list', {}, paths)).params, {})
  for (const method of ['skills/list', 'hooks/list', 'plugin/list']) {
    t.same((await call(method, {}, paths)).params, { cwds: ['/workspace'] }, method)
    t.same((await call(method, { cwds: [] }, paths)).params, { cwds: ['/workspace'] }, method)
    t.same((await call(method, { cwds: ['a'] }, paths)).params, { cwds: ['/workspace/a'] }, method)
    await t.rejects(call(method, { cwds: ['a', '/etc'] }, paths), { code: /./, details: { path: '/cwds/1' } }, method)
  }
  t.same((await call('hooks/list', { threadId: 'x' }, paths)).params, { threadId: 'x' })
  for (const method of ['thread/list', 'permissionProfile/list', 'config/read']) {
    await t.rejects(
      call(method, { cwd: '../x' }, paths),
      { code: 'CC_OUTSIDE_WORKSPACE', details: { path: '/cwd' } },
      method
    )
  }
  await t.rejects(call('thread/list', { cwd: ['a', '/etc'] }, paths), { code: /./, details: { path: '/cwd/1' } })
  t.same(made, [])
})

t.test('turn input is text, https and data images, and mentions inside the workspace', async (t) => {
  const extra: Record<string, object> = {
    'turn/start': {},
    'turn/steer': { expectedTurnId: 'y' },
    'thread/queue/add': { clientUserMessageId: 'm' },
    'thread/queue/update': { queuedSubmissionId: 'q' }
  }
  for (const method of TAKES_INPUT) {
    const send = (item: object) => call(method, { threadId: 'x', ...extra[method], input: [item] })
    for (const url of ['https://example.com/a.png', 'data:image/png;base64,AAAA']) {
      t.match((await send({ type: 'image', url })).params.input, [{ type: 'image', url }], method)
    }
    for (const type of ['mention', 'skill']) {
      t.match((await send({ type, name: 'n', path: 'src/a.ts' })).params.input, [{ type, path: '/workspace/src/a.ts' }])
      for (const path of ['../a', '/etc/passwd', 'app://calendar']) {
        const refused = { code: 'CC_OUTSIDE_WORKSPACE', details: { method, path: '/input/0/path' } }
        await t.rejects(send({ type, name: 'n', path }), refused, `${method} ${type} ${path}`)
      }
    }
    for (const type of ['localImage', 'localAudio']) {
      await t.rejects(send({ type, path: 'inside.png' }), {
        code: 'CC_INVALID_MESSAGE',
        details: { path: '/input/0/type' }
      })
    }
    for (const url of ['http://10.0.0.1/', 'file:///etc/passwd', 'data:text/html,x', 'https://a b', 'javascript:1']) {
      await t.rejects(send({ type: 'image', url }), { code: /./, details: { path: '/input/0/url' } }, url)
    }
    await t.rejects(send({ type: 'image', fileId: 'f' }), { code: 'CC_INVALID_MESSAGE' })
    await t.rejects(send({ type: 'audio', url: 'https://example.com/a.wav' }), {
      code: /./,
      details: { path: '/input/0/type' }
    })
  }
})

t.test('a viewer’s skill list is never scanned anew', async (t) => {
  const viewer = await call('skills/list', { forceReload: true }, { roles: ['viewer'] })
  t.same(viewer, { params: { cwds: ['/workspace'] }, dropped: ['forceReload'] })
  t.equal((await call('skills/list', { forceReload: true })).params.forceReload, true)
})

t.test('a reply that differs from what was injected is told field by field', (t) => {
  const sandbox = { type: 'workspaceWrite', writableRoots: [], networkAccess: false, excludeSlashTmp: true }
  const good = { approvalPolicy: 'on-request', approvalsReviewer: 'user', sandbox }
  t.same(checkReply('thread/start', good, 'on-request'), [])
  t.same(checkReply('turn/start', {}, 'on-request'), [], 'other replies do not say')
  t.same(checkReply('thread/resume', good, 'strict'), [
    { path: '/approvalPolicy', expected: 'untrusted', actual: 'on-request' }
  ])
  const paths = (result: unknown) => checkReply('thread/fork', result, 'on-request').map(({ path }) => path)
  t.same(paths({ ...good, approvalPolicy: { granular: {} } }), ['/approvalPolicy'])
  t.same(paths({ ...good, approvalsReviewer: 'auto_review' }), ['/approvalsReviewer'])
  t.same(paths({ ...good, sandbox: { ...sandbox, networkAccess: true } }), ['/sandbox/networkAccess'])
  t.same(paths({ ...good, sandbox: { ...sandbox, writableRoots: ['/'] } }), ['/sandbox/writableRoots'])
  const full = { ...good, sandbox: { type: 'dangerFullAccess' } }
  t.same(paths(full), ['/sandbox/type', '/sandbox/networkAccess', '/sandbox/writableRoots'])
  for (const nothing of [undefined, null, 'ok', []]) t.equal(paths(nothing).length, 5)
  t.end()
})

/** Guards as the gateway does, then asks the real codex. */
async function ask(
  codex: StdioCodex,
  workspace: string,
  method: string,
  params: object,
  mode: 'on-request' | 'strict'
) {
  const guarded = await call(method, params, { ...confineTo(workspace), mode, roles: ['admin'] })
  return codex.request(method, guarded.params)
}

function threadOf({ result }: StdioReply): string {
  return (result.thread as { id: string }).id
}

/** Starts a turn and ends it once its message is in the thread's file; without a model it would wait for ever. */
async function runTurn(codex: StdioCodex, params: Record<string, unknown>): Promise<{ id: string; status: string }> {
  const recorded = codex.notified('item/completed')
  const completed = codex.notified('turn/completed')
  const { result } = await codex.request('turn/start', params)
  const turn = result.turn as { id: string; status: string }
  await recorded
  await codex.request('turn/interrupt', { threadId: params.threadId, turnId: turn.id })
  await completed
  return turn
}

t.test('the real codex takes what was injected, and says so', async (t) => {
  for (const mode of ['on-request', 'strict'] as const) {
    const { home, workspace } = prepareHome(scratchDirectory(t))
    const codex = await startCodex(t, home, workspace)
    const started = await ask(codex, workspace, 'thread/start', {}, mode)
    t.same(checkReply('thread/start', started.result, mode), [], mode)
    t.equal(started.result.cwd, workspace)
    const threadId = threadOf(started)

    const { params } = await call('turn/start', { threadId, input: 'hello' }, { mode })
    t.equal((await runTurn(codex, params)).status, 'inProgress')

    const forked = await ask(codex, workspace, 'thread/fork', { threadId, excludeTurns: true }, mode)
    t.same(checkReply('thread/fork', forked.result, mode), [])
    const loaded = await ask(codex, workspace, 'thread/resume', { threadId, excludeTurns: true }, mode)
    t.same(checkReply('thread/resume', loaded.result, mode), [])
    t.match(loaded.result.sandbox, TURN_POLICY.sandboxPolicy, 'the turn’s sandbox stayed with the thread')
    await codex.stop()

    const again = await startCodex(t, home, workspace)
    const cold = await ask(again, workspace, 'thread/resume', { threadId, excludeTurns: true }, mode)
    t.same(checkReply('thread/resume', cold.result, mode), [])
    await again.stop()
  }
})

t.test('a thread that was loosened behind our back is told on resume, and put right by a cold one', async (t) => {
  const { home, workspace } = prepareHome(scratchDirectory(t))
  const codex = await startCodex(t, home, workspace)
  const loose = { cwd: workspace, approvalPolicy: 'never', sandbox: 'danger-full-access' }
  const threadId = threadOf(await codex.request('thread/start', loose))
  await runTurn(codex, { threadId, input: [{ type: 'text', text: 'hello' }] })
  const loaded = await ask(codex, workspace, 'thread/resume', { threadId, excludeTurns: true }, 'on-request')
  t.match(
    checkReply('thread/resume', loaded.result, 'on-request').map(({ path }) => path),
    ['/approvalPolicy', '/sandbox/type']
  )
  await codex.stop()
  const again = await startCodex(t, home, workspace)
  const cold = await ask(again, workspace, 'thread/resume', { threadId, excludeTurns: true }, 'on-request')
  t.same(checkReply('thread/resume', cold.result, 'on-request'), [])
  await again.stop()
})

t.test('a repository in the workspace cannot have codex start its MCP servers', async (t) => {
  const { home, workspace } = prepareHome(scratchDirectory(t))
  const codex = await startCodex(t, home, workspace)
  const plant = (name: string) => {
    const repository = join(workspace, name)
    mkdirSync(join(repository, '.git'), { recursive: true })
    mkdirSync(join(repository, '.codex'))
    mkdirSync(join(repository, 'packages', 'one'), { recursive: true })
    const server = '[mcp_servers.planted]\ncommand = "/bin/true"\n'
    writeFileSync(join(repository, '.codex', 'config.toml'), server)
    return repository
  }
  const serversOf = async (threadId: string) => {
    const { result } = await codex.request('mcpServerStatus/list', { threadId })
    return (result.data as { name: string }[]).map(({ name }) => name)
  }
  const trusted = () => readFileSync(join(home, 'config.toml'), 'utf8').includes('trust_level = "trusted"')

  plant('my.repo')
  for (const cwd of ['my.repo', 'my.repo/packages/one']) {
    const started = await ask(codex, workspace, 'thread/start', { cwd }, 'on-request')
    t.same(await serversOf(threadOf(started)), [], cwd)
  }
  t.notOk(trusted())

  // the hazard itself: should codex stop doing this, the injected trust_level can go
  const bare = await codex.request('thread/start', { cwd: plant('bare'), ...THREAD_POLICY })
  t.same(await serversOf(threadOf(bare)), ['planted'])
  t.ok(trusted())
  await codex.stop()
})

/** The least that a schema of ours accepts. */
function sample(schema: JsonSchema, name = ''): unknown {
  const [first] = schema.anyOf ?? []
  if (schema.const !== undefined || schema.enum !== undefined) return schema.const ?? schema.enum?.[0]
  if (first !== undefined) return sample(first, name)
  if (schema.type === 'array') return [sample(schema.items ?? {}, name)]
  if (schema.type === 'object') {
    const fields = schema.required ?? []
    return Object.fromEntries(fields.map((field) => [field, sample(schema.properties?.[field] ?? {}, field)]))
  }
  return /Ids?$/.test(name) ? '00000000-0000-7000-8000-000000000000' : 'x'
}

t.test('the real codex understands the params of every method that reaches it', async (t) => {
  const { home, workspace } = prepareHome(scratchDirectory(t))
  const codex = await startCodex(t, home, workspace)
  const unknown = await codex.request('no/such/method', {})
  const known = [...(unknown.error?.message ?? '').matchAll(/`([^`]+)`/g)].map(([, method]) => method)
  t.same(known.slice(1).sort(), [...METHODS.keys()].sort(), 'the running binary lists the methods of the table')
  for (const row of OPEN_METHODS.filter(({ action }) => action !== 'answer')) {
    const { error } = await ask(codex, workspace, row.method, sample(row.params as JsonSchema) as object, 'on-request')
    t.notMatch(error?.message ?? '', /^Invalid request/, `${row.method}: ${error?.message ?? 'ok'}`)
  }
  await codex.stop()
})
