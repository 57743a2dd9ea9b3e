import t from 'tap'
import type { Approval } from '../../schemas/approvals.ts'
import { decisionsByToken, showApproval } from '../../src/webhooks/shown-approval.ts'

function approval(fields: Partial<Approval>): Approval {
  return {
    approvalId: 'appr_1',
    kind: 'command',
    method: 'item/commandExecution/requestApproval',
    threadId: 'thread',
    turnId: 'turn',
    itemId: 'item',
    policy: { rule: 'default', reason: 'no rule proves it' },
    decisions: ['accept', 'acceptForSession', 'decline', 'cancel'],
    expiresAt: '2026-01-02T03:04:05.000Z',
    ...fields
  }
}

const ALL = ['accept', 'decline', 'cancel']
const change = (path: string) => ({ path, kind: 'add' as const, diff: 'content of the file' })
const mcp = {
  serverName: 'github',
  message: 'may it?',
  _meta: { tool_name: 'create_issue', tool_params: { body: 'long' } }
}

t.test('a token accepts only what the webhook is shown in full', (t) => {
  const shown: Partial<Approval>[] = [
    { command: 'touch a' },
    { command: 'x'.repeat(65_536) },
    { kind: 'writeStdin', command: "write_stdin --session-id 1 'ls\n'" },
    { kind: 'fileChange', changes: Array.from({ length: 200 }, (_, n) => change(`/w/${n}`)) },
    { kind: 'permissions', permissions: { network: { enabled: true } } },
    { kind: 'mcpToolCall', elicitation: mcp }
  ]
  for (const fields of shown) t.same(decisionsByToken(approval(fields)), ALL, JSON.stringify(fields).slice(0, 80))

  const notShown: Partial<Approval>[] = [
    { command: `ls ${' '.repeat(65_536)}; rm -rf ~` },
    {},
    { kind: 'network' },
    { kind: 'fileChange', changes: [] },
    { kind: 'fileChange', changes: Array.from({ length: 201 }, (_, n) => change(`/w/${n}`)) },
    { kind: 'fileChange', changes: [{ ...change('/w/a'), movePath: `/w/${'a'.repeat(1_024)}` }] },
    { command: 'ls', permissions: { fileSystem: { read: ['x'.repeat(65_536)] } } },
    { kind: 'mcpToolCall', elicitation: { serverName: 'github' } },
    { kind: 'elicitation', elicitation: mcp },
    { kind: 'userInput', questions: [{ id: 'q', question: 'Which?' }] },
    { kind: 'dynamicTool', tool: { tool: 'deploy', arguments: {} } }
  ]
  for (const fields of notShown) {
    t.same(decisionsByToken(approval(fields)), ['decline', 'cancel'], JSON.stringify(fields).slice(0, 80))
  }
  t.same(decisionsByToken(approval({ command: 'ls', decisions: ['accept', 'decline'] })), ['accept', 'decline'])
  t.end()
})

t.test('names and places are shown, contents, questions and arguments are not', (t) => {
  const private_ = ['content of the file', 'may it?', 'long', 'Which?', 'hunter2', 'argument']
  const shown = [
    showApproval(approval({ kind: 'fileChange', changes: [{ ...change('/w/a'), movePath: '/w/b' }] })),
    showApproval(approval({ kind: 'mcpToolCall', elicitation: mcp })),
    showApproval(approval({ kind: 'elicitation', elicitation: mcp })),
    showApproval(approval({ kind: 'userInput', questions: [{ question: 'Which?' }] })),
    showApproval(approval({ kind: 'dynamicTool', tool: { tool: 'deploy', arguments: { a: 'argument' } } })),
    showApproval(approval({ kind: 'permissions', permissions: { network: { enabled: true } } })),
    showApproval(
      approval({ command: 'a --password hunter2', reason: 'with PASSWORD=hunter2', cwd: '/w/token=hunter2' })
    ),
    showApproval(approval({ command: 'ls', policy: { rule: 'r', reason: 'because of PASSWORD=hunter2' } }))
  ]
  t.match(shown, [
    { paths: ['/w/a', '/w/b'] },
    { subject: 'github create_issue' },
    { subject: 'github' },
    { kind: 'userInput' },
    { subject: 'deploy' },
    { subject: '{"network":{"enabled":true}}' },
    { command: 'a --password [REDACTED]' },
    { policy: { rule: 'r' } }
  ])
  for (const text of private_) t.notOk(JSON.stringify(shown).includes(text), text)
  t.end()
})

t.test('however large an approval is, what is shown of it is bounded', (t) => {
  const huge = 'é'.repeat(1_000_000)
  const changes = Array.from({ length: 10_000 }, () => change(huge.slice(0, 5_000)))
  const fields = {
    command: huge,
    cwd: huge,
    reason: huge,
    changes,
    policy: { rule: 'r', reason: huge },
    permissions: [huge]
  }
  t.ok(JSON.stringify(showApproval(approval(fields))).length < 400_000)
  t.end()
})
