import { access, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import t from 'tap'
import type { PolicyEvaluateBody, PolicyEvaluateResult, PolicyFile, PolicyView } from '../schemas/policy.ts'
import { type Gateway, scratchDirectory, startGateway, type Teardown } from './support/gateway.ts'
import { runServer } from './support/gateway-process.ts'
import { codexProcessesOf, eventually } from './support/processes.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const ORGANISATION: PolicyFile = {
  timeoutMs: 120_000,
  autoApprove: { commands: ['ls', 'npm test'], paths: ['/tmp/*'] },
  rules: [
    { id: 'no-push', match: { kind: 'command', argv: ['git', 'push'] }, verdict: 'decline', reason: 'CI pushes' },
    { id: 'ask-make', match: { kind: 'command', argv: ['make'] }, verdict: 'ask' }
  ]
}
const ACCEPT_ALL: PolicyFile = {
  rules: [
    { id: 'push', match: { kind: 'command', argv: ['git', 'push'] }, verdict: 'accept' },
    { id: 'make', match: { kind: 'command', argv: ['make'] }, verdict: 'accept' }
  ]
}

t.test('the policy of a user: the organisation’s file, below a layer that only an admin may set', async (t) => {
  const file = await policyFile(t, ORGANISATION)
  const gateway = await startGateway(t, { JWT_SECRET: TEST_SECRET, POLICY_FILE: file })
  const alice = callerOf(gateway, await bearer('alice'))
  const bob = callerOf(gateway, await bearer('bob'))
  const admin = callerOf(gateway, await bearer('root', { roles: ['admin'] }))

  await t.test('everybody may read theirs', async (t) => {
    const { policy, userLayer, fileProblem } = await alice.view()
    t.match(policy, { ...ORGANISATION, defaultAction: 'decline', version: /^[0-9a-f]{16}$/ })
    t.strictSame(policy.autoApprove, { readOnly: true, ...ORGANISATION.autoApprove })
    t.strictSame({ userLayer, fileProblem }, { userLayer: {}, fileProblem: undefined })
    t.match((await alice.evaluate('git push origin')).rule, 'no-push')
    t.match(await alice.evaluate('make all'), { verdict: 'ask', rule: 'ask-make' })
  })

  await t.test('users, approvers and services may not change it, neither theirs nor another’s', async (t) => {
    for (const roles of [['viewer'], ['user'], ['approver'], ['service']]) {
      const caller = callerOf(gateway, await bearer('alice', { roles }))
      const { status, body } = await caller.put(ACCEPT_ALL)
      t.equal(status, 403, roles.join())
      t.equal(body.error.code, 'CC_FORBIDDEN')
    }
    t.equal((await alice.put(ACCEPT_ALL, '?userId=bob')).status, 403)
    t.strictSame((await alice.view()).userLayer, {})
  })

  await t.test('a layer changes that user’s verdicts alone; a decline of the organisation stands', async (t) => {
    const before = await bob.view()
    const { status, body } = await admin.put(ACCEPT_ALL, '?userId=alice')
    t.equal(status, 200)
    t.match(body, { userLayer: ACCEPT_ALL })
    t.match(await alice.evaluate('make all'), { verdict: 'accept', rule: 'make' })
    t.match(await alice.evaluate('git push origin'), { verdict: 'decline', rule: 'no-push', reason: 'CI pushes' })
    t.match(await bob.evaluate('make all'), { verdict: 'ask', rule: 'ask-make' })
    t.strictSame(await bob.view(), before)
    t.not((await alice.view()).policy.version, before.policy.version)
    const { records } = (await admin.get('/api/audit?userId=alice&type=note')).body
    t.match(records, [{ event: 'policy-changed', actor: { kind: 'user', id: 'root', role: 'admin' } }])
  })

  await t.test(
    'a layer that is not valid is refused with its place, changes nothing and is not on record',
    async (t) => {
      const match = { kind: 'command', argv: ['make'] }
      const rule = { id: 'x', match, verdict: 'accept' }
      const cases: [string, unknown, string, RegExp][] = [
        ['no JSON', '{"rules":', 'CC_BAD_REQUEST', /JSON/],
        ['no object', [], 'CC_VALIDATION', /body/],
        ['an unknown field', { rule: [] }, 'CC_VALIDATION', /additional|body/],
        ['an unknown verdict', { rules: [{ ...rule, verdict: 'allow' }] }, 'CC_VALIDATION', /body\/rules\/0\/verdict/],
        ['a pattern within a path', { autoApprove: { paths: ['/a/*/b'] } }, 'CC_VALIDATION', /autoApprove\/paths\/0/],
        ['a number as text', { timeoutMs: '5000' }, 'CC_VALIDATION', /timeoutMs/],
        ['two rules of one name', { rules: [rule, rule] }, 'CC_POLICY_INVALID', /\/rules\/1\/id.*twice/],
        [
          'any command accepted',
          { rules: [{ ...rule, match: { kind: 'command' } }] },
          'CC_POLICY_INVALID',
          /rules\/0\/match.*"argv"/
        ],
        [
          'an accepted question to a person',
          { rules: [{ ...rule, match: { kind: 'userInput' } }] },
          'CC_POLICY_INVALID',
          /person has to answer/
        ],
        [
          'two commands in one',
          { autoApprove: { commands: ['ls; rm x'] } },
          'CC_POLICY_INVALID',
          /more than one command/
        ]
      ]
      const notes = async () => (await admin.get('/api/audit?userId=alice&type=note')).body.records.length
      const countBefore = await notes()
      for (const [name, layer, code, message] of cases) {
        const { status, body } = await admin.put(layer, '?userId=alice')
        t.equal(status, 400, name)
        t.match(body.error, { code, message }, name)
      }
      t.strictSame((await alice.view()).userLayer, ACCEPT_ALL)
      t.equal(await notes(), countBefore)
    }
  )

  await t.test('a body of evaluate that is not valid is refused', async (t) => {
    for (const body of [
      {},
      { kind: 'command' },
      { kind: 'command', command: 7 },
      { kind: 'command', command: 'ls', shell: 'zsh' },
      { kind: 'fileChange', changes: [] },
      { kind: 'fileChange', changes: [{ path: 'x', kind: 'write' }] },
      { kind: 'permissions' }
    ]) {
      const { status, body: answer } = await alice.post('/api/policy/evaluate', body)
      t.equal(status, 400, JSON.stringify(body))
      t.equal(answer.error.code, 'CC_VALIDATION')
    }
  })

  await t.test('the layer is still there after a restart', async (t) => {
    const { policy } = await alice.view()
    await gateway.close()
    const again = await startGateway(t, { DATA_DIR: gateway.dataDir, JWT_SECRET: TEST_SECRET, POLICY_FILE: file })
    const view = await callerOf(again, await bearer('alice')).view()
    t.strictSame(view, { policy, userLayer: ACCEPT_ALL })
  })
})

t.test('what evaluate says has no effect, and is what happens when codex asks', async (t) => {
  const outside = await scratchDirectory(t)
  const file = await policyFile(t, {
    ...ORGANISATION,
    autoApprove: { commands: ['ls'], paths: [`${resolve(outside)}/ok/*`] }
  })
  const gateway = await startGateway(t, { POLICY_FILE: file })
  const { address, dataDir } = gateway
  const alice = callerOf(gateway, { 'x-user-id': 'alice' })
  const commands = ['ls -la', 'cat /etc/passwd', 'git push origin main', 'make', 'ls; rm x', 'wc -l < x', 'npm test']
  const said = new Map<string, PolicyEvaluateResult>()
  for (const command of commands) said.set(command, await alice.evaluate(command))
  const changes = (name: string): PolicyEvaluateBody => ({
    kind: 'fileChange',
    changes: [{ path: join(resolve(outside), name, 'new.txt'), kind: 'add' }]
  })
  for (const name of ['ok', 'no']) said.set(name, (await alice.post('/api/policy/evaluate', changes(name))).body)
  t.strictSame(new Set([...said.values()].map(({ verdict }) => verdict)), new Set(['accept', 'ask', 'decline']))
  const ofUsers = (await codexProcessesOf(dataDir)).filter(({ environment }) => environment.HOME?.includes('/homes/'))
  t.strictSame(ofUsers, [])
  t.strictSame((await alice.get('/api/audit')).body.records, [])

  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId } = await client.call('thread/start', {})
  for (const name of ['ok', 'no']) await mkdir(join(outside, name))
  for (const [what, { verdict, rule, reason, argv, workspace }] of said) {
    const path = join(resolve(outside), what, 'new.txt')
    const isChange = what === 'ok' || what === 'no'
    const patch = `*** Begin Patch\n*** Add File: ${path}\n+hello\n*** End Patch`
    const { turnId } = await client.startTurn(isChange ? `patch: ${patch}` : `escalate: ${what}`, threadId)
    if (verdict === 'ask') {
      const { payload } = await client.waitFor('approval/request', ({ turnId: id }) => id === turnId)
      t.strictSame(payload.policy, { rule, reason }, what)
      t.equal(payload.kind, isChange ? 'fileChange' : 'command', what)
      await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
    }
    await client.waitForTurnEnd(turnId)
    const { records } = (await alice.get('/api/audit?limit=1')).body
    t.match(records, [{ turnId, verdict: { verdict, rule, reason } }], what)
    t.strictSame(records[0].argv, argv?.flat(), what)
    if (!isChange) t.equal(records[0].cwd, workspace)
    else t.equal(await exists(path), verdict === 'accept', what)
  }
})

t.test('a changed file is in force at once, and what waits for an answer goes on waiting', async (t) => {
  const directory = await scratchDirectory(t)
  const file = join(directory, 'policy.json')
  await writeFile(file, policyText('v1', 'ask'))
  const { app, address } = await startGateway(t, { POLICY_FILE: file })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const versionOf = async () => (await get<PolicyView>(app, '/api/policy')).policy.version
  const before = await versionOf()
  const first = await client.startTurn('escalate: touch one.txt')
  const { payload: waiting } = await client.waitFor('approval/request')
  t.match(waiting.policy, { rule: 'v1' })

  await writeFile(file, policyText('v2', 'accept'))
  await eventually('the new policy is in force', 5_000, async () => (await versionOf()) !== before)
  const after = await versionOf()
  t.match(await get(app, '/api/approvals'), { approvals: [{ approvalId: waiting.approvalId }] })
  const second = await client.startTurn('escalate: touch two.txt')
  await client.waitForTurnEnd(second.turnId)
  t.notOk(client.received.some(({ type, payload }) => type === 'approval/request' && payload.turnId === second.turnId))
  t.ok(await exists(join(waiting.cwd, 'two.txt')))
  await client.call('approval/respond', { approvalId: waiting.approvalId, decision: 'accept' })
  await client.waitForTurnEnd(first.turnId)
  t.ok(await exists(join(waiting.cwd, 'one.txt')))

  const { records } = await get<{ records: unknown }>(app, '/api/audit')
  t.match(records, [
    { turnId: first.turnId, policyVersion: before, verdict: { verdict: 'ask', rule: 'v1' } },
    { turnId: second.turnId, policyVersion: after, verdict: { verdict: 'accept', rule: 'v2' } }
  ])
})

t.test('a new policy is seen however it comes', async (t) => {
  const deliveries: Record<string, (directory: string) => Promise<[file: string, deliver: (text: string) => unknown]>> =
    {
      'written in place': async (directory) => {
        const file = join(directory, 'policy.json')
        return [file, (text) => writeFile(file, text)]
      },
      'renamed over the old one': async (directory) => {
        const file = join(directory, 'policy.json')
        return [file, (text) => writeFile(`${file}.new`, text).then(() => rename(`${file}.new`, file))]
      },
      'as Kubernetes mounts a ConfigMap: the link ..data gets another target': async (directory) => {
        await symlink('..data/policy.json', join(directory, 'policy.json'))
        return [join(directory, 'policy.json'), (text) => swapDirectory(directory, '..data', text)]
      },
      'through a directory that is itself a link': async (directory) => {
        return [join(directory, 'current', 'policy.json'), (text) => swapDirectory(directory, 'current', text)]
      },
      'written where a link leads': async (directory) => {
        await mkdir(join(directory, 'elsewhere'))
        await symlink('elsewhere/real.json', join(directory, 'policy.json'))
        const write = (text: string) => writeFile(join(directory, 'elsewhere', 'real.json'), text)
        return [join(directory, 'policy.json'), write]
      },
      'removed and made again': async (directory) => {
        const file = join(directory, 'policy.json')
        return [file, (text) => rm(file, { force: true }).then(() => writeFile(file, text))]
      }
    }
  for (const [name, prepare] of Object.entries(deliveries)) {
    await t.test(name, async (t) => {
      const [file, deliver] = await prepare(await scratchDirectory(t))
      await deliver(policyText('v0', 'ask'))
      const gateway = await startGateway(t, { POLICY_FILE: file })
      const alice = callerOf(gateway, { 'x-user-id': 'alice' })
      t.equal((await alice.evaluate('touch x')).rule, 'v0')
      // Twice: the second change must be seen as well.
      for (const [rule, verdict] of [
        ['v1', 'accept'],
        ['v2', 'decline']
      ] as const) {
        await deliver(policyText(rule, verdict))
        await eventually(`${rule} is in force`, 5_000, async () => (await alice.evaluate('touch x')).rule === rule)
        t.equal((await alice.evaluate('touch x')).verdict, verdict)
      }
    })
  }
})

t.test('a broken new file: the old policy stays, and everybody is told where the fault is', async (t) => {
  const directory = await scratchDirectory(t)
  const file = join(directory, 'policy.json')
  await writeFile(file, policyText('v1', 'decline'))
  const gateway = await startGateway(t, { POLICY_FILE: file })
  const logged = t.capture(gateway.app.log, 'error')
  const alice = callerOf(gateway, { 'x-user-id': 'alice' })
  const { policy } = await alice.view()
  const broken: [text: string | undefined, problem: RegExp][] = [
    ['{\n  "rules": [,]\n}', /line 2, column 13/],
    ['{\n  "timeoutMs": 5000,\n  "defaultAction": "accept"\n}', /line 3, column 3.*"decline", "cancel"/],
    [policyText('v2', 'accept').replace('["touch"]', '[]'), /line 1, column \d+.*\/rules\/0\/match\/argv/],
    [undefined, /ENOENT/],
    ['', /line 1, column 1/]
  ]
  for (const [text, problem] of broken) {
    if (text === undefined) await rm(file)
    else await writeFile(file, text)
    const view = await eventually<PolicyView | undefined>(`${problem} is told`, 5_000, async () => {
      const view = await alice.view()
      return problem.test(view.fileProblem ?? '') ? view : undefined
    })
    t.ok(view?.fileProblem?.includes(file), 'the file is named')
    t.strictSame(view?.policy, policy)
    t.equal((await alice.evaluate('touch x')).rule, 'v1')
    const err = { code: 'CC_POLICY_INVALID', message: problem }
    t.match(logged().at(-1)?.args, [{ err, policyVersion: policy.version }, /broken; the old one stays/])
  }

  await writeFile(file, policyText('v3', 'accept'))
  await eventually('the mended policy is in force', 5_000, async () => (await alice.evaluate('touch x')).rule === 'v3')
  t.equal((await alice.view()).fileProblem, undefined)

  await writeFile(file, '{')
  await eventually('the fault is told', 5_000, async () => (await alice.view()).fileProblem)
  await writeFile(file, policyText('v3', 'accept'))
  await eventually('the text before is no fault', 5_000, async () => (await alice.view()).fileProblem === undefined)
})

t.test('a gateway does not start on a broken policy file', async (t) => {
  const file = join(await scratchDirectory(t), 'policy.json')
  await writeFile(file, '{\n  "rulez": []\n}')
  const { code, output } = await runServer(t, { POLICY_FILE: file })
  t.equal(code, 1)
  t.match(output, /CC_POLICY_INVALID.*line 2, column 3.*\/rulez.*not known/)
})

t.test(
  'the gateway’s directories are no part of /tmp/*, and a user’s workspace below /tmp is theirs alone',
  async (t) => {
    const base = await mkdtemp(join(tmpdir(), 'cloud-codex-test-'))
    t.teardown(() => rm(base, { recursive: true, force: true, maxRetries: 5 }))
    await symlink(base, `${base}-link`)
    t.teardown(() => rm(`${base}-link`))
    const workspaces = join(base, 'workspaces')
    const gateway = await startGateway(t, { DATA_DIR: join(base, 'data'), WORKSPACE_ROOT: workspaces })
    const alice = callerOf(gateway, { 'x-user-id': 'alice' })
    const bob = callerOf(gateway, { 'x-user-id': 'bob' })
    const own = (await alice.evaluate('ls')).workspace
    const others = (await bob.evaluate('ls')).workspace
    t.ok(own.startsWith(workspaces) && others.startsWith(workspaces) && own !== others)

    const verdictOf = async (command: string) => (await alice.evaluate(command)).verdict
    for (const path of ['x', `${own}/x`, `${base}/other/x`, '/tmp/x', `${base}-link/other`]) {
      t.equal(await verdictOf(`cat ${path}`), 'accept', path)
    }
    const closed = [
      `${base}/data/audit/audit-000001.jsonl`,
      `${base}-link/data/audit/audit-000001.jsonl`,
      `${base}/data`,
      `${base}/data/missing`,
      workspaces,
      others,
      `${others}/x`,
      `${own}/../${others.split('/').at(-1)}/x`,
      `${base}-link/workspaces/${others.split('/').at(-1)}/x`
    ]
    for (const path of closed) {
      t.match(await alice.evaluate(`cat ${path}`), { verdict: 'ask', rule: 'builtin:scope' }, path)
      for (const change of [
        { path: `${path}/new`, kind: 'add' },
        { path: '/tmp/x', kind: 'update', movePath: `${path}/new` }
      ]) {
        const { body } = await alice.post('/api/policy/evaluate', { kind: 'fileChange', changes: [change] })
        t.match(body, { verdict: 'ask', rule: 'builtin:scope' }, `${JSON.stringify(change)}`)
      }
    }
    t.equal(await verdictOf(`grep -r x ${base}`), 'ask', 'what walks into them')
    t.equal(await verdictOf('grep -r x .'), 'accept')
    const fine = { kind: 'fileChange', changes: [{ path: '/tmp/cloud-codex-other.txt', kind: 'add' }] }
    t.equal((await alice.post('/api/policy/evaluate', fine)).body.verdict, 'accept')
  }
)

/** The API as one caller uses it. */
function callerOf({ app }: Gateway, headers: Record<string, string>) {
  const send = async (method: 'GET' | 'PUT' | 'POST', url: string, payload?: unknown) => {
    const text = typeof payload === 'string' ? payload : JSON.stringify(payload)
    const body = payload === undefined ? {} : { payload: text }
    const type = payload === undefined ? {} : { 'content-type': 'application/json' }
    const response = await app.inject({ method, url, headers: { ...headers, ...type }, ...body })
    return { status: response.statusCode, body: response.json() }
  }
  return {
    get: (url: string) => send('GET', url),
    post: (url: string, payload: unknown) => send('POST', url, payload),
    put: (layer: unknown, query = '') => send('PUT', `/api/policy${query}`, layer),
    view: async (): Promise<PolicyView> => (await send('GET', '/api/policy')).body,
    evaluate: async (command: string): Promise<PolicyEvaluateResult> =>
      (await send('POST', '/api/policy/evaluate', { kind: 'command', command })).body
  }
}

async function get<T>(app: Gateway['app'], url: string): Promise<T> {
  return (await app.inject({ url, headers: { 'x-user-id': 'alice' } })).json() as T
}

async function policyFile(t: Teardown, policy: PolicyFile): Promise<string> {
  const file = join(await scratchDirectory(t), 'policy.json')
  await writeFile(file, JSON.stringify(policy))
  return file
}

/** A policy with one rule about `touch`. */
function policyText(id: string, verdict: 'accept' | 'ask' | 'decline'): string {
  return JSON.stringify({ rules: [{ id, match: { kind: 'command', argv: ['touch'] }, verdict }] })
}

let directories = 0

/** A new directory with the policy in it, to which the link is turned in one step. */
async function swapDirectory(parent: string, link: string, text: string): Promise<void> {
  const target = `..v${++directories}`
  await mkdir(join(parent, target))
  await writeFile(join(parent, target, 'policy.json'), text)
  await symlink(target, join(parent, `${link}_tmp`))
  await rename(join(parent, `${link}_tmp`), join(parent, link))
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false
  )
}
