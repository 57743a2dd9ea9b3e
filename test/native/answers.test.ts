import t from 'tap'
import type { ApprovalKind } from '../../schemas/approvals.ts'
import type { JsonValue } from '../../src/json.ts'
import { readAnswer } from '../../src/native/native-answers.ts'
import { APPROVAL_CASES } from '../support/approval-cases.ts'

function read(kind: ApprovalKind, result: JsonValue | undefined) {
  const decisions =
    kind === 'network' ? ['accept', 'decline', 'cancel'] : APPROVAL_CASES.find((one) => one.kind === kind)?.decisions
  return readAnswer({ kind, decisions: [...(decisions ?? [])] as never }, result)
}

t.test('decisions are the gateway’s own, whatever codex would keep of them', (t) => {
  for (const kind of ['command', 'fileChange'] as const) {
    for (const decision of ['accept', 'acceptForSession', 'decline', 'cancel']) {
      t.strictSame(read(kind, { decision }), { decision }, `${kind}: ${decision}`)
    }
  }
  const amendment = { acceptWithExecpolicyAmendment: { execpolicy_amendment: ['rm'] } }
  t.strictSame(read('command', { decision: amendment }), { decision: 'acceptForSession' })
  t.strictSame(
    read('writeStdin', { decision: 'acceptForSession' }),
    { decision: 'accept' },
    'where nothing can be kept'
  )
  const network = (action: string) => ({
    decision: { applyNetworkPolicyAmendment: { network_policy_amendment: { host: 'h', action } } }
  })
  t.strictSame(read('network', network('allow')), { decision: 'accept' })
  t.strictSame(read('network', network('deny')), { decision: 'decline' })
  t.end()
})

t.test('other kinds say it in their own way', (t) => {
  const permissions = { fileSystem: { write: ['/x'] } }
  t.strictSame(read('permissions', { permissions, scope: 'session' }), { decision: 'accept', permissions })
  t.strictSame(read('permissions', { permissions: {}, scope: 'turn' }), { decision: 'decline' })
  t.strictSame(read('userInput', { answers: { q: { answers: ['a', 1] } } }), {
    decision: 'accept',
    answers: { q: { answers: ['a'] } }
  })
  const content = { colour: 'violet' }
  t.strictSame(read('elicitation', { action: 'accept', content, _meta: null }), { decision: 'accept', content })
  t.strictSame(read('elicitation', { action: 'accept', content, _meta: { persist: 'always' } }), {
    decision: 'accept',
    content
  })
  t.strictSame(read('mcpToolCall', { action: 'accept', content: null, _meta: { persist: 'session' } }), {
    decision: 'acceptForSession'
  })
  t.strictSame(read('elicitation', { action: 'cancel', content: null, _meta: null }), { decision: 'cancel' })
  const contentItems = [{ type: 'inputText', text: 'x' }]
  t.strictSame(read('dynamicTool', { contentItems, success: true }), { decision: 'accept', contentItems })
  t.strictSame(read('dynamicTool', { contentItems, success: false }), {
    decision: 'accept',
    contentItems,
    success: false
  })
  t.end()
})

t.test('what cannot be read is a refusal', (t) => {
  const kinds = [...new Set(APPROVAL_CASES.map(({ kind }) => kind)), 'network' as const]
  const bad: (JsonValue | undefined)[] = [
    undefined,
    null,
    'accept',
    [],
    {},
    { decision: 'yes' },
    { decision: 1 },
    { decision: {} }
  ]
  const worse: JsonValue[] = [
    { decision: { toString: 'accept' } },
    { decision: '__proto__' },
    { action: ['accept'] },
    { answers: 1 }
  ]
  for (const kind of kinds) {
    for (const result of [...bad, ...worse])
      t.strictSame(read(kind, result), { decision: 'decline' }, `${kind}: ${JSON.stringify(result)}`)
  }
  t.end()
})
