import t from 'tap'
import type { PolicyFile, Rule } from '../../schemas/policy.ts'
import type { PolicyContext, RepositoryState } from '../../src/approvals/context.ts'
import { decide } from '../../src/approvals/decide.ts'
import { parsePolicyFile } from '../../src/approvals/policy-file.ts'
import {
  PLAIN_GATE,
  type PolicyRequest,
  requestFromEvaluate,
  requestFromQuestion
} from '../../src/approvals/request.ts'
import { compileRules, mayApproveFor } from '../../src/approvals/rules.ts'
import { readServerRequest } from '../../src/codex/server-requests.ts'

const workspace = '/workspace'
const NOW = Date.parse('2026-01-02T00:00:00Z')

/** A file system in a table: links by path, everything else is what it is called. */
function contextWith(overrides: Partial<PolicyContext> & { links?: Record<string, string> } = {}): PolicyContext {
  const { links = {}, ...rest } = overrides
  const resolve = (path: string): string | undefined => {
    const parts: string[] = []
    for (const name of path.split('/').filter((part) => part !== '' && part !== '.')) {
      if (name === '..') parts.pop()
      else parts.push(name)
      const target = links[`/${parts.join('/')}`]
      if (target === undefined) continue
      parts.splice(0, parts.length, ...target.split('/').filter((part) => part !== ''))
    }
    return `/${parts.join('/')}`
  }
  const inspectRepository = (): RepositoryState => ({ state: 'none' })
  return { now: NOW, protectedRoots: [], resolve, isDirectory: () => false, inspectRepository, ...rest }
}

function judge(command: string, layers: PolicyFile[] = [], context = contextWith(), cwd = workspace) {
  return decide({ kind: 'command', command, cwd, workspace, gate: PLAIN_GATE }, compileRules(layers), context)
}

function judgeChange(
  changes: { path: string; kind?: 'add' | 'delete' | 'update'; movePath?: string }[],
  layers: PolicyFile[] = [],
  context = contextWith()
) {
  const request = {
    kind: 'fileChange',
    workspace,
    changes: changes.map((change) => ({ kind: 'update' as const, ...change }))
  } as const
  return decide(request, compileRules(layers), context)
}

t.test('the gate of a request closes on everything that is not a plain command in the workspace', async (t) => {
  const rules = compileRules([
    { rules: [{ id: 'all-ls', match: { kind: 'command', argv: ['ls'] }, verdict: 'accept' }] }
  ])
  const plain = { kind: 'command', command: 'ls', cwd: workspace, workspace, gate: PLAIN_GATE } as const
  t.equal(decide(plain, rules, contextWith()).verdict, 'accept')
  t.equal(decide({ ...plain, gate: { ...PLAIN_GATE, environmentId: 'local' } }, rules, contextWith()).verdict, 'accept')
  const closed: Partial<typeof plain.gate>[] = [
    { commandKind: 'humanCommand' },
    { commandKind: 'writeStdin' },
    { approvalId: 'a' },
    { environmentId: 'remote' },
    { hasNetworkContext: true },
    { hasAdditionalPermissions: true }
  ]
  for (const change of closed) {
    const decision = decide({ ...plain, gate: { ...PLAIN_GATE, ...change } }, rules, contextWith())
    t.match(decision, { verdict: 'ask', rule: 'builtin:gate' }, JSON.stringify(change))
  }
  for (const cwd of [
    '/',
    '/tmp',
    '/workspace-evil',
    '/workspace/..',
    '',
    'src',
    '/workspace/.git',
    '/workspace/.codex/x'
  ]) {
    t.match(decide({ ...plain, cwd }, rules, contextWith()), { verdict: 'ask', rule: 'builtin:gate' }, `cwd ${cwd}`)
  }
  const links = { '/workspace/out': '/etc' }
  t.equal(judge('ls', [], contextWith({ links }), '/workspace/out').verdict, 'ask', 'a link as working directory')
  t.equal(judge('ls', [], contextWith({ resolve: () => undefined })).verdict, 'ask', 'a path that cannot be resolved')
})

t.test('links are resolved before a path is compared', async (t) => {
  const links = {
    '/workspace/etc': '/etc',
    '/workspace/inner': '/workspace/src',
    '/tmp/l': '/root',
    '/workspace/key': '/tmp/.ssh'
  }
  const context = contextWith({ links })
  t.equal(judge('cat etc/hosts', [], context).verdict, 'ask')
  t.equal(
    judge('cat etc/../workspace/a', [], context).verdict,
    'accept',
    'the parent of the target, as the kernel walks'
  )
  t.equal(judge('cat inner/a.ts', [], context).verdict, 'accept')
  t.equal(judge('ls /tmp/l', [], context).verdict, 'ask')
  t.equal(judge('ls /tmp/l/..', [], context).verdict, 'ask')
  t.equal(judge('ls key', [], context).verdict, 'ask', 'a harmless name for a sensitive place')
  t.equal(judge('diff a b', [], context).verdict, 'accept')
  t.equal(judge('diff a b', [], contextWith({ isDirectory: (path) => path === '/workspace/b' })).verdict, 'ask')
  t.equal(
    judge('diff ./b ../workspace/b', [], contextWith({ isDirectory: (path) => path === '/workspace/b' })).verdict,
    'ask'
  )
})

t.test('protected directories never count, even below an allowlisted path', async (t) => {
  const context = contextWith({
    protectedRoots: ['/tmp/data', '/tmp/data/workspaces', '/workspace/home']
  })
  t.equal(judge('cat /tmp/data/x', [], context).verdict, 'ask')
  t.equal(judge('cat /tmp/database', [], context).verdict, 'accept', 'whole components')
  t.equal(judge('ls /tmp', [], context).verdict, 'accept', 'names alone')
  for (const command of ['ls -R /tmp', 'grep -r x /tmp', 'find /tmp', 'rg x /tmp', 'du -s /tmp', 'find', 'rg x']) {
    t.equal(judge(command, [], context).verdict, 'ask', command)
  }
  t.equal(judge('cat home/config.toml', [], context).verdict, 'ask', 'a codex home inside the workspace')
  t.equal(judgeChange([{ path: '/tmp/data/x' }], [], context).verdict, 'ask')
  const allowed: PolicyFile = { autoApprove: { paths: ['/tmp/*', '/tmp/data/*', '/tmp/data/workspaces/*'] } }
  t.equal(judge('cat /tmp/data/x', [allowed], context).verdict, 'ask', 'whatever the policy lists')

  const inside = {
    workspace: '/data/workspaces/a',
    cwd: '/data/workspaces/a',
    gate: PLAIN_GATE,
    kind: 'command'
  } as const
  const shared = contextWith({ protectedRoots: ['/data', '/data/workspaces'] })
  const rules = compileRules([])
  t.equal(decide({ ...inside, command: 'cat a.txt' }, rules, shared).verdict, 'accept', 'the own workspace')
  t.equal(decide({ ...inside, command: 'rg foo' }, rules, shared).verdict, 'accept')
  t.equal(decide({ ...inside, command: 'cat ../b/a.txt' }, rules, shared).verdict, 'ask', 'the workspace of another')
  const wide = compileRules([{ autoApprove: { paths: ['/data/*'] } }])
  t.equal(decide({ ...inside, command: 'cat /data/workspaces/b/a.txt' }, wide, shared).verdict, 'ask')
})

t.test('a file change is accepted only if every path and target is below an allowlisted path', async (t) => {
  const links = { '/tmp/out': '/etc', '/workspace/in': '/tmp/in' }
  const context = contextWith({ links })
  t.match(judgeChange([{ path: '/tmp/a' }, { path: '/tmp/b/c', kind: 'add' }]), {
    verdict: 'accept',
    rule: 'builtin:allowed-path'
  })
  t.equal(judgeChange([{ path: '/tmp/a', movePath: '/tmp/b' }]).verdict, 'accept')
  const asked = [
    [],
    [{ path: '/tmp' }],
    [{ path: '/workspace/a' }],
    [{ path: 'a' }],
    [{ path: '/tmp/a' }, { path: '/etc/a' }],
    [{ path: '/tmp/a', movePath: '/workspace/a' }],
    [{ path: '/tmp/../etc/a' }],
    [{ path: '/tmpx/a' }],
    [{ path: '/tmp/out/a' }],
    [{ path: '/tmp/out', kind: 'delete' as const }],
    [{ path: '/workspace/in/a' }].concat({ path: '/workspace/in' }),
    [{ path: '/tmp/a\u0007' }],
    ...'.git/config .git/hooks/x .codex/config.toml .agents/x .github/workflows/x.yml hooks/pre-commit .husky/x .env id_rsa a.pem .bashrc .vscode/tasks.json .gitattributes .GIT/config Jenkinsfile'
      .split(' ')
      .map((name) => [{ path: `/tmp/repo/${name}` }])
  ]
  for (const changes of asked) t.equal(judgeChange(changes, [], context).verdict, 'ask', JSON.stringify(changes))
  const granted = {
    kind: 'fileChange',
    workspace,
    changes: [{ path: '/tmp/a', kind: 'add' }],
    grantRoot: '/tmp'
  } as const
  t.match(decide(granted, compileRules([]), contextWith()), { verdict: 'ask', rule: 'builtin:gate' })
  const relative: PolicyFile = { autoApprove: { paths: ['generated/*', 'notes.md'] } }
  t.equal(judgeChange([{ path: '/workspace/generated/a.ts' }, { path: 'notes.md' }], [relative]).verdict, 'accept')
  t.equal(judgeChange([{ path: '/tmp/a' }], [relative]).verdict, 'ask', 'the list of a layer replaces the default')
})

t.test('git is accepted only where its configuration starts no program', async (t) => {
  const seen: string[] = []
  const inspect = (repository: RepositoryState) => (directory: string) => {
    seen.push(directory)
    return repository
  }
  t.equal(judge('git status', [], contextWith({ inspectRepository: inspect({ state: 'plain' }) })).verdict, 'accept')
  t.same(seen, ['/workspace'])
  const unproven = contextWith({
    inspectRepository: inspect({ state: 'unproven', reason: 'the git config sets "x.y"' })
  })
  t.match(judge('git log', [], unproven), { verdict: 'ask', reason: 'the git config sets "x.y"' })
  t.equal(judge('ls && cat a', [], unproven).verdict, 'accept', 'other programs do not care')
  t.equal(
    judge('git status', [], contextWith(), '/workspace/sub').verdict,
    'ask',
    'a directory the agent may have made'
  )
})

t.test('listed commands widen the table by exact words and nothing else', async (t) => {
  const listed: PolicyFile = {
    autoApprove: { commands: ['npm test', 'make lint', 'git push', 'sort -o x', "echo 'a b'"] }
  }
  for (const command of ['npm test', "/bin/bash -lc 'npm test'", 'make  lint', "'npm' test", 'git push']) {
    t.match(judge(command, [listed]), { verdict: 'accept', rule: 'builtin:allowlist' }, command)
  }
  const asked = [
    'npm',
    'npm test x',
    'npm test --x',
    'npm tests',
    'npm "test x"',
    'ls && npm test',
    'npm test; ls',
    'npm test | cat'
  ]
  for (const command of [...asked, 'npm test > x', '/usr/bin/npm test', 'sort -o x', 'git push -f', 'make lint &']) {
    t.equal(judge(command, [listed]).verdict, 'ask', command)
  }
  t.equal(judge('npm test', [listed], contextWith(), '/etc').verdict, 'ask', 'the gate still holds')

  const only: PolicyFile = { autoApprove: { readOnly: false, commands: ['ls', 'git log --oneline'] } }
  t.equal(judge('ls -la', [only]).verdict, 'accept')
  t.equal(judge('ls -la /etc', [only]).verdict, 'ask')
  t.equal(judge('cat a', [only]).verdict, 'ask')
  t.equal(judge('git log --oneline -5', [only]).verdict, 'accept')
  t.equal(judge('git log', [only]).verdict, 'ask')
  t.equal(judge('git status', [{ autoApprove: { readOnly: false, commands: ['git'] } }]).verdict, 'accept')
  t.equal(judge('git commit', [{ autoApprove: { readOnly: false, commands: ['git'] } }]).verdict, 'ask')
})

t.test('the first matching rule decides, for each simple command, and the strictest command wins', async (t) => {
  const layer: PolicyFile = {
    rules: [
      {
        id: 'no-force',
        match: { kind: 'command', argv: ['git', 'push', '--force'] },
        verdict: 'decline',
        reason: 'never'
      },
      { id: 'push', match: { kind: 'command', argv: ['git', 'push'] }, verdict: 'accept' },
      { id: 'test', match: { kind: 'command', argv: ['npm', 'test'], exact: true }, verdict: 'accept' },
      { id: 'look', match: { kind: 'command', argv: ['cat'], paths: ['private/*', '/tmp/x'] }, verdict: 'ask' },
      { id: 'no-rm', match: { kind: 'command', argv: ['rm'] }, verdict: 'decline' }
    ]
  }
  t.same(judge('git push --force origin', [layer]), {
    verdict: 'decline',
    rule: 'no-force',
    reason: 'never',
    argv: [['git', 'push', '--force', 'origin']]
  })
  t.match(judge('git push origin --force', [layer]), { verdict: 'accept', rule: 'push' }, 'leading words, exactly')
  t.match(judge('/usr/bin/git push', [layer]), { verdict: 'accept', rule: 'push', reason: 'rule "push" says accept' })
  t.equal(judge('./git push', [layer]).verdict, 'ask')
  t.equal(judge('git pushx', [layer]).verdict, 'ask')
  t.match(judge('ls && npm test && git push', [layer]), { verdict: 'accept' })
  t.equal(judge('npm test x', [layer]).verdict, 'ask', 'exact')
  t.match(judge('ls; cat x; /bin/rm x', [layer]), { verdict: 'decline', rule: 'no-rm' })
  t.match(judge('cat a ./private/b', [layer]), { verdict: 'ask', rule: 'look' }, 'one path is enough to ask')
  t.match(judge('cat other/../private/b', [layer]), { verdict: 'ask', rule: 'look' })
  t.equal(judge('cat privately', [layer]).verdict, 'accept')
  t.match(judge('rm $x', [layer]), { verdict: 'ask', rule: 'builtin:shell' }, 'what cannot be read is never accepted')
  t.equal(judge('git push', [layer], contextWith(), '/etc').verdict, 'ask', 'an accepting rule does not open the gate')
  t.match(judge('rm x', [layer], contextWith(), '/etc'), { verdict: 'decline' })
  const every: PolicyFile = { rules: [{ id: 'none', match: { kind: 'command' }, verdict: 'decline' }] }
  t.match(judge('echo $x', [every]), { verdict: 'decline', rule: 'none' })
})

t.test('an accepting rule with paths needs every path', async (t) => {
  const layer: PolicyFile = {
    rules: [
      {
        id: 'docs',
        match: { kind: 'fileChange', paths: ['docs/*', '/srv/shared/*'], changes: ['add', 'update'] },
        verdict: 'accept'
      },
      { id: 'no-delete', match: { kind: 'fileChange', changes: ['delete'] }, verdict: 'decline' }
    ]
  }
  t.match(judgeChange([{ path: '/workspace/docs/a.md' }, { path: '/srv/shared/b' }], [layer]), {
    rule: 'docs',
    verdict: 'accept'
  })
  t.equal(judgeChange([{ path: '/workspace/docs/a.md', movePath: '/workspace/src/a.md' }], [layer]).verdict, 'ask')
  t.equal(judgeChange([{ path: '/workspace/docs/.git/config' }], [layer]).verdict, 'ask', 'guarded names stay guarded')
  t.match(judgeChange([{ path: '/tmp/a' }, { path: '/tmp/b', kind: 'delete' }], [layer]), {
    rule: 'no-delete',
    verdict: 'decline'
  })
  const links = { '/workspace/docs/out': '/etc' }
  t.equal(judgeChange([{ path: '/workspace/docs/out/a' }], [layer], contextWith({ links })).verdict, 'ask')
  const secret = contextWith({ protectedRoots: ['/srv/shared/data'] })
  t.equal(judgeChange([{ path: '/srv/shared/data/a' }], [layer], secret).verdict, 'ask', 'protected stays protected')
})

t.test('an accepting rule for a known program opens no secret and no protected directory', async (t) => {
  const layer: PolicyFile = {
    autoApprove: { readOnly: false, commands: [] },
    rules: [
      { id: 'docs', match: { kind: 'command', argv: ['cat'], paths: ['docs/*', '/srv/*'] }, verdict: 'accept' },
      { id: 'head', match: { kind: 'command', argv: ['head'] }, verdict: 'accept' },
      { id: 'show', match: { kind: 'command', argv: ['git', 'show'] }, verdict: 'accept' }
    ]
  }
  const context = contextWith({ protectedRoots: ['/srv/data'], links: { '/workspace/docs/out': '/etc' } })
  t.match(judge('cat docs/a /srv/b', [layer], context), { verdict: 'accept', rule: 'docs' })
  t.equal(judge('cat docs/a src/b', [layer], context).verdict, 'ask', 'every path has to be covered')
  t.equal(judge('cat', [layer], context).verdict, 'ask', 'no path is not every path')
  t.equal(judge('cat docs/out/a', [layer], context).verdict, 'ask', 'covered before its links are resolved')
  t.equal(judge('head /var/log/x', [layer], context).verdict, 'accept', 'the rule widens the scope')
  for (const command of [
    'cat docs/.env',
    'cat /srv/data/x',
    'head /srv/data/x',
    'head /root/.ssh/x',
    'git show HEAD:.env'
  ]) {
    t.match(judge(command, [layer], context), { verdict: 'ask', rule: 'builtin:scope' }, command)
  }
})

t.test('nothing is accepted that the second parser reads differently, not even by a rule', async (t) => {
  const layer: PolicyFile = {
    rules: [{ id: 'declare', match: { kind: 'command', argv: ['declare'] }, verdict: 'accept' }]
  }
  t.match(judge('declare x', [layer]), { verdict: 'accept', rule: 'declare' })
  // A plain word to the lexer, an assignment to the other parser, and bash does assign.
  t.match(judge('declare x=1', [layer]), { verdict: 'ask', rule: 'builtin:second-opinion' })
})

t.test('a rule ends at its expiry', async (t) => {
  const rule: Rule = {
    id: 'soon',
    match: { kind: 'command', argv: ['npm'] },
    verdict: 'accept',
    expiresAt: '2026-01-02T00:00:00Z'
  }
  t.equal(judge('npm x', [{ rules: [rule] }], contextWith({ now: NOW - 1 })).verdict, 'accept')
  t.equal(judge('npm x', [{ rules: [rule] }], contextWith({ now: NOW })).verdict, 'ask')
})

t.test('a narrower layer replaces values and rules, save that a decline stands', async (t) => {
  const organisation: PolicyFile = {
    timeoutMs: 60_000,
    autoApprove: { commands: ['npm test'] },
    rules: [
      { id: 'org-ask', match: { kind: 'command', argv: ['make'] }, verdict: 'ask' },
      { id: 'org-no', match: { kind: 'command', argv: ['curl'] }, verdict: 'decline' }
    ],
    approvers: [{ roles: ['approver'], for: ['alice'] }]
  }
  const user: PolicyFile = {
    defaultAction: 'cancel',
    rules: [
      { id: 'my-make', match: { kind: 'command', argv: ['make'] }, verdict: 'accept' },
      { id: 'my-curl', match: { kind: 'command', argv: ['curl'] }, verdict: 'accept' }
    ]
  }
  t.match(judge('make x', [organisation, user]), { verdict: 'accept', rule: 'my-make' })
  t.match(judge('make x', [organisation]), { verdict: 'ask', rule: 'org-ask' })
  t.match(judge('curl x', [organisation, user]), { verdict: 'decline', rule: 'org-no' })
  const { policy } = compileRules([organisation, user])
  t.match(policy, {
    timeoutMs: 60_000,
    defaultAction: 'cancel',
    autoApprove: { commands: ['npm test'], paths: ['/tmp/*'] }
  })
  t.same(
    policy.rules.map(({ id }) => id),
    ['org-ask', 'org-no', 'my-make', 'my-curl']
  )
  t.same(compileRules([]).policy, {
    version: compileRules([{}]).version,
    timeoutMs: 300_000,
    defaultAction: 'decline',
    autoApprove: { readOnly: true, commands: ['ls', 'cat', 'grep', 'git status', 'git log'], paths: ['/tmp/*'] },
    rules: [],
    approvers: []
  })
  t.match(compileRules([]).version, /^[0-9a-f]{16}$/)
  t.not(compileRules([organisation]).version, compileRules([]).version)
  t.equal(
    compileRules([{ timeoutMs: 5000, defaultAction: 'cancel' }]).version,
    compileRules([{ defaultAction: 'cancel', timeoutMs: 5000 }]).version,
    'the order of fields does not matter'
  )
  t.ok(mayApproveFor(policy, { userId: 'bob', roles: ['approver'] }, 'alice'))
  t.notOk(mayApproveFor(policy, { userId: 'bob', roles: ['approver'] }, 'carol'))
  t.notOk(mayApproveFor(policy, { userId: 'bob', roles: ['user'] }, 'alice'))
  const byName = compileRules([{ approvers: [{ users: ['bob'], for: ['*'] }] }]).policy
  t.ok(mayApproveFor(byName, { userId: 'bob', roles: [] }, 'carol'))
  t.throws(() => compileRules([{ rules: [{ id: 'x', match: { kind: 'command' }, verdict: 'accept' }] }]), {
    code: 'CC_POLICY_INVALID'
  })
})

t.test('every other kind is asked until a rule covers it', async (t) => {
  const requests: PolicyRequest[] = [
    { kind: 'permissions', workspace },
    { kind: 'network', host: 'example.com' },
    { kind: 'writeStdin', command: 'x' },
    { kind: 'mcpToolCall', server: 's', tool: 'a' },
    { kind: 'elicitation', server: 's' },
    { kind: 'userInput' },
    { kind: 'dynamicTool', tool: 'a' }
  ]
  for (const request of requests) {
    t.match(decide(request, compileRules([]), contextWith()), { verdict: 'ask', rule: 'builtin:default' }, request.kind)
    const declined = compileRules([{ rules: [{ id: 'no', match: { kind: request.kind }, verdict: 'decline' }] }])
    t.match(decide(request, declined, contextWith()), { verdict: 'decline', rule: 'no' }, request.kind)
  }
  const rules = compileRules([
    {
      rules: [
        { id: 'hosts', match: { kind: 'network', hosts: ['example.com', '*.npmjs.org'] }, verdict: 'accept' },
        { id: 'tools', match: { kind: 'mcpToolCall', server: 'docs', tools: ['search'] }, verdict: 'accept' }
      ]
    }
  ])
  const host = (name: string) => decide({ kind: 'network', host: name }, rules, contextWith()).verdict
  t.same(['example.com', 'EXAMPLE.com', 'registry.npmjs.org', 'a.b.npmjs.org'].map(host), Array(4).fill('accept'))
  t.same(
    ['npmjs.org', '.npmjs.org', 'evilnpmjs.org', 'example.com.evil', 'x.example.com', ''].map(host),
    Array(6).fill('ask')
  )
  const tool = (server: string | undefined, name: string) =>
    decide({ kind: 'mcpToolCall', server, tool: name }, rules, contextWith()).verdict
  t.equal(tool('docs', 'search'), 'accept')
  t.same([tool('docs', 'write'), tool('other', 'search'), tool(undefined, 'search')], ['ask', 'ask', 'ask'])
})

t.test('a question of codex becomes the request that the policy judges', async (t) => {
  const params = {
    kind: 'command',
    threadId: 't',
    turnId: 'u',
    itemId: 'i',
    environmentId: 'local',
    cwd: workspace,
    command: 'ls'
  }
  const read = (method: string, change: object = {}) => {
    const request = readServerRequest(method, { ...params, ...change }, () => [
      { path: '/tmp/a', kind: 'add', diff: '' }
    ])
    return request.type === 'question' ? requestFromQuestion(request.question, workspace) : undefined
  }
  const command = 'item/commandExecution/requestApproval'
  const verdict = (change?: object) =>
    decide(read(command, change) as PolicyRequest, compileRules([]), contextWith()).verdict
  t.equal(verdict(), 'accept')
  t.equal(
    verdict({ approvalId: null, networkApprovalContext: null, additionalPermissions: null, environmentId: null }),
    'accept'
  )
  const closed = [
    { kind: 'humanCommand' },
    { kind: undefined },
    { approvalId: 'x' },
    { approvalId: 7 },
    { environmentId: {} },
    { additionalPermissions: {} },
    { additionalPermissions: 'x' },
    { networkApprovalContext: 'x' },
    { cwd: null },
    { command: null },
    { kind: 'writeStdin' }
  ]
  for (const change of closed) t.equal(verdict(change), 'ask', JSON.stringify(change))
  t.same(read(command, { networkApprovalContext: { host: 'h', protocol: 'https' } }), {
    kind: 'network',
    host: 'h',
    protocol: 'https'
  })
  t.match(read('item/fileChange/requestApproval', { grantRoot: null }), {
    kind: 'fileChange',
    changes: [{ path: '/tmp/a' }],
    grantRoot: null
  })
  const mcp = { serverName: 's', _meta: { codex_approval_kind: 'mcp_tool_call', tool_name: 'x' } }
  t.same(read('mcpServer/elicitation/request', mcp), { kind: 'mcpToolCall', server: 's', tool: 'x' })
  t.same(read('mcpServer/elicitation/request', { serverName: 's' }), { kind: 'elicitation', server: 's' })
  t.same(read('item/permissions/requestApproval'), { kind: 'permissions', workspace })
  t.same(read('item/tool/requestUserInput'), { kind: 'userInput' })
  t.same(read('item/tool/call', { tool: 'x' }), { kind: 'dynamicTool', tool: 'x' })
  t.match(requestFromEvaluate({ kind: 'command', command: 'ls', cwd: 'src' }, workspace), { cwd: '/workspace/src' })
})

t.test('a policy file is read, or every problem is named by line and column', async (t) => {
  const text = '{ "timeoutMs": 60000, "rules": [{ "id": "a", "match": { "kind": "userInput" }, "verdict": "ask" }] }'
  t.same(parsePolicyFile(text, 'p.json'), JSON.parse(text))
  t.same(parsePolicyFile('{}', 'p.json'), {})
  const problems: [string, RegExp][] = [
    ['', /line 1, column 1: the text ends too early/],
    ['{\n  "timeoutMs": 60000,\n}', /line 3, column 1: expected a key in double quotes/],
    ['{\n "a" 1}', /line 2, column 6: expected ":"/],
    ['{"rules": [1 2]}', /line 1, column 14: expected "," or "]"/],
    ['{"rules": [nul]}', /line 1, column 12: expected a value/],
    ['{"a": "x\ny"}', /line 1, column 7: the string holds/],
    ['{"a": "x', /line 1, column 7: the string is not closed/],
    ['{} x', /line 1, column 4: unexpected text/],
    [`${'['.repeat(40)}`, /nested too deeply/],
    ['{"rules": [],\n "rules": []}', /line 2, column 2: the key "rules" stands twice/],
    ['{"__proto__": {}}', /line 1, column 2: \/__proto__: this field is not known/],
    ['[]', /line 1, column 1: must be object/],
    ['{\n  "timeoutMs": "5m"\n}', /line 2, column 3: \/timeoutMs: must be integer/],
    ['{\n  "timeoutMs": 5\n}', /line 2, column 3: \/timeoutMs: must be >= 1000/],
    ['{\n\n  "defaultAction": "accept" }', /line 3, column 3: \/defaultAction: must be one of "decline", "cancel"/],
    ['{"autoApprove": {\n "path": [] }}', /line 2, column 2: \/autoApprove\/path: this field is not known here/],
    ['{"autoApprove": {"paths": ["/tmp/*",\n  "/*"]}}', /line 2, column 3: \/autoApprove\/paths\/1: must be \/dir/],
    ['{"autoApprove": {"paths": ["/tmp/**/x"]}}', /must be \/dir/],
    ['{"autoApprove": {"paths": ["../x"]}}', /must be \/dir/],
    [
      '{"autoApprove": {"commands": ["ls",\n "ls > x"]}}',
      /line 2, column 2: \/autoApprove\/commands\/1: "ls > x" is not a plain command/
    ],
    ['{"autoApprove": {"commands": ["ls; pwd"]}}', /is more than one command/],
    ['{"rules": [{"id":"a b","match":{"kind":"command"},"verdict":"ask"}]}', /\/rules\/0\/id: must match pattern/],
    ['{"rules": [{"id":"a","match":{"kind":"command"},"verdict":"ask","expiresAt":"soon"}]}', /\/rules\/0\/expiresAt/],
    [
      '{"rules": [\n{"id":"a","match":{"kind":"command"},"verdict":"accept"}]}',
      /line 2, column 11: \/rules\/0\/match: an accepting rule needs "argv"/
    ],
    ['{"rules": [{"id":"a","match":{"kind":"permissions"},"verdict":"accept"}]}', /a person has to answer/],
    ['{"rules": [{"id":"a","match":{"kind":"network","argv":["x"]},"verdict":"ask"}]}', /"argv" does not fit/],
    ['{"rules": [{"id":"a","match":{"kind":"command","exact":true},"verdict":"ask"}]}', /"exact" needs "argv"/],
    [
      '{"rules": [{"id":"a","match":{"kind":"userInput"},"verdict":"ask"},\n{"id":"a","match":{"kind":"userInput"},"verdict":"ask"}]}',
      /line 2, column 2: \/rules\/1\/id: the id "a" is used twice/
    ],
    ['{"approvers": [{"for": ["*"]}]}', /needs "roles" or "users"/]
  ]
  for (const [file, message] of problems) {
    t.throws(() => parsePolicyFile(file, 'p.json'), { code: 'CC_POLICY_INVALID', message }, file)
  }
  try {
    parsePolicyFile('{\n "a": 1,\n "timeoutMs": 1 }', 'p.json')
    t.fail('must throw')
  } catch (error) {
    t.match(error, {
      message: /^The policy file p\.json is not valid: /,
      details: {
        problems: [
          { line: 2, column: 2 },
          { line: 3, column: 2 }
        ]
      }
    })
  }
})
