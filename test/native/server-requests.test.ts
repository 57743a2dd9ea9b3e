import t from 'tap'
import { ApprovalAlreadyResolved, AuditUnavailable } from '../../errors.ts'
import type { Approval, RespondBody } from '../../schemas/approvals.ts'
import { messagesIn } from '../../src/journal/frames.ts'
import { ServerRequests } from '../../src/native/server-requests.ts'
import type { Session } from '../../src/session/session.ts'

const ACTOR = { actorId: 'alice', roles: ['user' as const] }
const approval = {
  approvalId: 'appr_1',
  kind: 'command',
  threadId: 't1',
  decisions: ['accept', 'acceptForSession', 'decline', 'cancel']
} as Approval
const call = {
  id: 7,
  method: 'item/commandExecution/requestApproval',
  params: {
    kind: 'command',
    threadId: 't1',
    command: 'ls',
    additionalPermissions: { network: { enabled: true } },
    cwd: '/w'
  }
}

const read = (frames: readonly Buffer[]) =>
  frames.flatMap((frame) => [...messagesIn(frame)].map((message) => JSON.parse(message.toString('utf8'))))

/** Requests to one client, of a session in which one approval waits until it is answered without a failure. */
function stage({ isExperimental = true, failures = [] as Error[] } = {}) {
  const answers: RespondBody[] = []
  const sent: object[] = []
  let isPending = true
  const session = {
    pendingCall: (approvalId: string) => (isPending && approvalId === 'appr_1' ? call : undefined),
    pendingApprovals: () => (isPending ? [approval] : []),
    async respond(_approvalId: string, body: RespondBody) {
      answers.push(body)
      const failure = failures.shift()
      if (failure) throw failure
      isPending = false
    }
  }
  let onSent = () => {}
  const isSent = new Promise<void>((resolve) => {
    onSent = resolve
  })
  const requests = new ServerRequests({
    session: session as unknown as Session,
    isExperimental,
    send: (frames) => {
      sent.push(...read(frames))
      onSent()
    }
  })
  t.teardown(() => requests.close())
  return { requests, answers, sent, isSent }
}

t.test('a request is codex’s own, less what the client did not ask for', (t) => {
  t.strictSame(read(stage().requests.ask(approval)), [{ method: call.method, id: 7, params: call.params }])
  const { additionalPermissions: _hidden, ...params } = call.params
  t.strictSame(read(stage({ isExperimental: false }).requests.ask(approval)), [{ method: call.method, id: 7, params }])
  t.end()
})

t.test('it is put once, and again to who resumes the thread', (t) => {
  const { requests } = stage()
  t.equal(requests.askOnce(approval).length, 1)
  t.equal(requests.askOnce(approval).length, 0)
  t.equal(requests.askAll('t1').length, 1)
  t.equal(requests.askAll('t2').length, 0)
  t.end()
})

t.test('only who was asked hears that it is over, and only once', (t) => {
  const { requests } = stage()
  t.notOk(requests.onResolvedByCodex({ requestId: 7 }))
  requests.ask(approval)
  t.notOk(requests.onResolvedByCodex({ requestId: '7' }))
  t.strictSame(requests.onResolved({ approvalId: 'appr_1', outcome: 'accepted' }, true), [], 'codex will say it')
  t.ok(requests.onResolvedByCodex({ requestId: 7 }))
  t.notOk(requests.onResolvedByCodex({ requestId: 7 }))

  requests.ask(approval)
  t.match(read(requests.onResolved({ approvalId: 'appr_1', outcome: 'orphaned' }, true)), [
    { method: 'serverRequest/resolved', params: { threadId: 't1', requestId: 7 }, emittedAtMs: Number }
  ])
  t.strictSame(requests.onResolved({ approvalId: 'appr_1', outcome: 'orphaned' }, true), [])
  requests.ask(approval)
  t.strictSame(requests.onResolved({ approvalId: 'appr_1', outcome: 'orphaned' }, false), [], 'opted out')
  t.notOk(requests.onResolvedByCodex({ requestId: 7 }))
  t.end()
})

t.test('an answer counts for what was asked, and a late one is nothing', async (t) => {
  const { requests, answers, sent } = stage()
  await requests.answer('7', { decision: 'accept' }, ACTOR)
  t.strictSame(answers, [], 'nobody asked')
  requests.ask(approval)
  await requests.answer('"7"', { decision: 'accept' }, ACTOR)
  t.strictSame(answers, [])
  await requests.answer('7', { decision: 'accept' }, ACTOR)
  t.strictSame(answers, [{ decision: 'accept' }])
  t.strictSame(sent, [])
})

t.test('an answer that could not be put on record is asked for again; one that was too late is not', async (t) => {
  const late = stage({ failures: [new ApprovalAlreadyResolved('appr_1', 'accepted')] })
  const { requests, answers, sent, isSent } = stage({ failures: [new AuditUnavailable('disk full')] })
  for (const each of [late.requests, requests]) {
    each.ask(approval)
    await each.answer('7', { decision: 'accept' }, ACTOR)
  }
  t.strictSame(sent, [])
  await isSent
  t.match(sent, [{ id: 7, method: call.method }])
  t.strictSame(late.sent, [])
  await requests.answer('7', { decision: 'decline' }, ACTOR)
  t.strictSame(answers, [{ decision: 'accept' }, { decision: 'decline' }])
})
