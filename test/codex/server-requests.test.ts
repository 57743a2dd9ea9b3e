import t from 'tap'
import type { Decision } from '../../schemas/approvals.ts'
import { type Question, readServerRequest } from '../../src/codex/server-requests.ts'
import type { JsonObject } from '../../src/json.ts'

const ids = { threadId: 'thread', turnId: 'turn', itemId: 'item' }

function question(method: string, params: JsonObject, changes?: Question['changes']): Question {
  const request = readServerRequest(method, { ...ids, ...params }, () => changes)
  if (request.type !== 'question') throw new Error(`${method} is no question`)
  return request.question
}

const command = 'item/commandExecution/requestApproval'

t.test('a command: what is asked, and the shapes of the answers', async (t) => {
  const asked = question(command, { command: '/bin/bash -lc ls', cwd: '/w', reason: 'because', kind: 'command' })
  t.match(asked, { ...ids, kind: 'command', command: '/bin/bash -lc ls', cwd: '/w', reason: 'because' })
  t.strictSame(asked.decisions, ['accept', 'acceptForSession', 'decline', 'cancel'])
  for (const [decision, sent] of [
    ['accept', 'accept'],
    ['acceptForSession', 'accept'],
    ['decline', 'decline'],
    ['cancel', 'cancel']
  ] as const) {
    t.strictSame(asked.answer(decision, {}), { decision: sent }, `${decision}: nothing is remembered by codex`)
  }
})

t.test('a command that is not plain is told apart', async (t) => {
  t.match(question(command, { kind: 'writeStdin', command: 'write_stdin --session-id 1 x' }), { kind: 'writeStdin' })
  const network = { networkApprovalContext: { host: 'example.org', protocol: 'https' } }
  t.match(question(command, network), { kind: 'network' })
  const permissions = { fileSystem: { write: ['/root'] } }
  t.match(question(command, { command: 'ls', additionalPermissions: permissions }), { kind: 'command', permissions })
  for (const params of [{ kind: 'writeStdin' }, network]) {
    t.notOk(question(command, params).decisions.includes('acceptForSession'), 'once only')
  }
})

t.test('a file change: its paths come from the item before it', async (t) => {
  const method = 'item/fileChange/requestApproval'
  const changes = [{ path: '/w/a', kind: 'add' as const, diff: '+x' }]
  t.strictSame(question(method, {}, changes).changes, changes)
  t.strictSame(question(method, {}).changes, [], 'unknown paths are no paths: nothing that a policy could accept')
  const asked: string[] = []
  readServerRequest(method, ids, (threadId, itemId) => {
    asked.push(threadId, itemId)
    return undefined
  })
  t.strictSame(asked, ['thread', 'item'])
})

t.test('the other kinds: accepted and refused in the shape of each', async (t) => {
  const details = {
    permissions: { fileSystem: { read: ['/w'] } },
    answers: { q: { answers: ['yes'] } },
    content: { field: 'x' },
    contentItems: [{ type: 'inputText', text: 'out' }]
  }
  for (const [method, params, kind, accepted, refused] of [
    [
      'item/permissions/requestApproval',
      { permissions: { fileSystem: { read: ['/w'], write: ['/w'] } } },
      'permissions',
      { permissions: details.permissions, scope: 'turn' },
      { permissions: {}, scope: 'turn' }
    ],
    [
      'item/tool/requestUserInput',
      { questions: [{ id: 'q' }] },
      'userInput',
      { answers: details.answers },
      { answers: {} }
    ],
    [
      'mcpServer/elicitation/request',
      { message: 'fill in' },
      'elicitation',
      { action: 'accept', content: details.content, _meta: null },
      { action: 'decline', content: null, _meta: null }
    ],
    [
      'mcpServer/elicitation/request',
      { _meta: { codex_approval_kind: 'mcp_tool_call', persist: ['session', 'always'] } },
      'mcpToolCall',
      { action: 'accept', content: details.content, _meta: null },
      { action: 'decline', content: null, _meta: null }
    ],
    [
      'item/tool/call',
      { callId: 'item', tool: 'lookup', arguments: {} },
      'dynamicTool',
      { contentItems: details.contentItems, success: true },
      { contentItems: [{ type: 'inputText', text: 'tool unavailable' }], success: false }
    ]
  ] as const) {
    const asked = question(method, params as unknown as JsonObject)
    t.match(asked, { kind, ...ids })
    t.strictSame(asked.answer('accept', details), accepted, `${kind} accepted`)
    t.strictSame(asked.answer('decline', details), refused, `${kind} declined`)
  }
})

t.test('an accepted answer without details is still of codex’s shape', async (t) => {
  const requested = { fileSystem: { write: ['/w/x'] } }
  const method = 'item/permissions/requestApproval'
  t.strictSame(question(method, { permissions: requested }).answer('accept', {}), {
    permissions: requested,
    scope: 'turn'
  })
  t.strictSame(question('item/tool/requestUserInput', {}).answer('accept', {}), { answers: {} })
  t.strictSame(question('item/tool/call', {}).answer('accept', {}), { contentItems: [], success: true })
  t.match(question('mcpServer/elicitation/request', {}).answer('cancel', {}), { action: 'cancel', content: null })
})

t.test('no method is left without an answer, whatever its params are', async (t) => {
  t.match(
    readServerRequest('currentTime/read', {}, () => undefined),
    { type: 'settled', result: { currentTimeAt: Number } }
  )
  for (const method of ['applyPatchApproval', 'execCommandApproval']) {
    const refusal = { decision: { denied: { rejection: 'declined by gateway' } } }
    t.strictSame(
      readServerRequest(method, {}, () => undefined),
      { type: 'settled', result: refusal }
    )
  }
  for (const method of [
    'account/chatgptAuthTokens/refresh',
    'attestation/generate',
    'something/new',
    '',
    '__proto__'
  ]) {
    t.match(
      readServerRequest(method, {}, () => undefined),
      { type: 'refused', error: { code: -32601 } },
      method
    )
  }
  const questions = [
    command,
    'item/fileChange/requestApproval',
    'item/permissions/requestApproval',
    'item/tool/requestUserInput',
    'mcpServer/elicitation/request',
    'item/tool/call'
  ]
  for (const method of questions) {
    for (const params of [undefined, null, [], 'x', 7, {}, { threadId: 7, command: {}, permissions: [], _meta: 'x' }]) {
      const request = readServerRequest(method, params as JsonObject, () => undefined)
      t.equal(request.type, 'question')
      if (request.type !== 'question') continue
      for (const decision of ['accept', 'decline', 'cancel'] satisfies Decision[]) {
        t.type(request.question.answer(decision, {}), 'object')
      }
    }
  }
})
