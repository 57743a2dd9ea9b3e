import t from 'tap'
import { methodOf, Subscriptions } from '../../src/native/subscriptions.ts'

function passes(subscriptions: Subscriptions, method: string, params: object, before = ''): boolean {
  const text = `${before}{"method":"${method}","params":${JSON.stringify(params)},"emittedAtMs":1795376936567}`
  const bytes = Buffer.from(`${text}}`)
  const [start, end] = [Buffer.byteLength(before), bytes.length - 1]
  t.equal(methodOf(bytes, start, end), method)
  return subscriptions.passAsBefore(bytes, start, end) ?? subscriptions.pass(method, bytes, start, end)
}

t.test('a thread is heard by those who have subscribed to it', (t) => {
  const subscriptions = new Subscriptions([])
  subscriptions.add('t1')
  for (const before of ['', '{"type":"event","seq":12,"payload":']) {
    for (const [threadId, expected] of [
      ['t1', true],
      ['t2', false],
      ['t1', true],
      ['t11', false],
      ['t', false]
    ] as const) {
      for (const delta of ['a', 'b']) {
        t.equal(passes(subscriptions, 'item/agentMessage/delta', { threadId, delta }, before), expected)
      }
      const item = { id: 'x', text: ',"threadId":"t1"', senderThreadId: 't1', agents: [{ id: 1, threadId: 't1' }] }
      t.equal(passes(subscriptions, 'item/completed', { item, threadId, turnId: 'u' }, before), expected)
      t.equal(passes(subscriptions, 'error', { error: { threadId: 't1' }, threadId }, before), expected)
    }
  }
  t.end()
})

t.test('a verdict of before does not outlive the subscription', (t) => {
  const subscriptions = new Subscriptions([])
  const delta = () => passes(subscriptions, 'item/agentMessage/delta', { threadId: 't1', delta: 'x' })
  t.strictSame([delta(), delta()], [false, false])
  subscriptions.add('t1')
  t.strictSame([delta(), delta(), subscriptions.has('t1')], [true, true, true])
  t.equal(subscriptions.delete('t1'), true)
  t.strictSame([delta(), delta(), subscriptions.has('t1')], [false, false, false])
  t.equal(subscriptions.delete('t1'), false)
  t.end()
})

t.test('what all clients list is for all, and what names no thread too', (t) => {
  const subscriptions = new Subscriptions([])
  t.ok(passes(subscriptions, 'thread/status/changed', { threadId: 't9', status: { type: 'idle' } }))
  t.ok(passes(subscriptions, 'thread/name/updated', { threadId: 't9', threadName: 'n' }))
  t.ok(passes(subscriptions, 'thread/started', { thread: { id: 't9' } }))
  t.ok(passes(subscriptions, 'account/updated', { authMode: null }))
  t.notOk(passes(subscriptions, 'thread/tokenUsage/updated', { threadId: 't9' }))
  t.notOk(passes(subscriptions, 'turn/completed', { threadId: 't9', turn: {} }))
  t.end()
})

t.test('methods that a client has opted out of are none of its', (t) => {
  const subscriptions = new Subscriptions(['thread/started', 'item/agentMessage/delta', 'account/updated'])
  subscriptions.add('t1')
  t.notOk(passes(subscriptions, 'thread/started', { thread: { id: 't1' } }))
  t.notOk(passes(subscriptions, 'account/updated', {}))
  t.notOk(passes(subscriptions, 'item/agentMessage/delta', { threadId: 't1', delta: 'x' }))
  t.notOk(passes(subscriptions, 'item/agentMessage/delta', { threadId: 't1', delta: 'y' }))
  t.ok(passes(subscriptions, 'item/started', { item: {}, threadId: 't1' }))
  t.end()
})

t.test('what comes of a thread while it is opened is kept for who opens it', (t) => {
  const client = new Subscriptions([])
  client.add('t1')
  const warning = (threadId: string) => passes(client, 'warning', { threadId, message: 'x' })
  t.strictSame([warning('t2'), warning('t2')], [false, false])
  client.early.begin()
  client.early.begin()
  t.strictSame([warning('t2'), warning('t2'), warning('t3'), warning('t1')], [false, false, false, true])
  t.equal(client.early.end('t2').length, 2)
  t.notOk(warning('t3'))
  t.equal(client.early.end('t3').length, 2)
  t.notOk(warning('t3'))
  client.early.begin()
  t.strictSame(client.early.end('t3'), [], 'and no longer than that')
  t.end()
})
