import t from 'tap'
import type { RpcId } from '../../src/codex/classify.ts'
import { readFileChanges, ThreadTracker } from '../../src/session/thread-tracker.ts'

function setUp() {
  const resolved: RpcId[] = []
  const tracker = new ThreadTracker((id) => resolved.push(id))
  const notify = (method: string, params: unknown) =>
    tracker.onNotification(method, Buffer.from(JSON.stringify({ method, params })))
  return { tracker, notify, resolved }
}

const change = { path: '/w/a', kind: { type: 'update', move_path: '/w/b' }, diff: '@@' }
const fileChange = (id: string, changes: unknown[] = [change]) => ({
  threadId: 't1',
  turnId: 'u1',
  item: { type: 'fileChange', id, changes }
})

t.test('threads and their turns, as codex tells them', async (t) => {
  const { tracker, notify } = setUp()
  notify('thread/started', { thread: { id: 't1', name: 'First' } })
  notify('thread/started', { thread: { id: 't2' } })
  t.ok(tracker.isLoaded('t1'))
  notify('thread/status/changed', { threadId: 't1', status: { type: 'active', activeFlags: [] } })
  notify('turn/started', { threadId: 't1', turn: { id: 'u1' } })
  t.equal(tracker.runningTurns, 1)
  t.strictSame(tracker.summaries(), [
    { threadId: 't1', title: 'First', status: 'active', turnId: 'u1' },
    { threadId: 't2', title: null, status: 'idle' }
  ])
  notify('turn/completed', { threadId: 't1', turn: { id: 'an older one' } })
  t.equal(tracker.runningTurns, 1, 'the end of another turn is not this one’s')
  notify('turn/completed', { threadId: 't1', turn: { id: 'u1', status: 'completed' } })
  notify('thread/name/updated', { threadId: 't2', threadName: 'Second' })
  notify('thread/status/changed', { threadId: 't1', status: { type: 'idle' } })
  t.equal(tracker.runningTurns, 0)
  t.match(tracker.summaries(), [{ status: 'idle' }, { title: 'Second' }])
})

t.test('a thread that is unloaded, closed, archived or deleted runs nothing any more', async (t) => {
  const endings: [string, object][] = [
    ['thread/status/changed', { threadId: 't1', status: { type: 'notLoaded' } }],
    ['thread/closed', { threadId: 't1' }],
    ['thread/archived', { threadId: 't1' }],
    ['thread/deleted', { threadId: 't1' }]
  ]
  for (const [method, params] of endings) {
    const { tracker, notify } = setUp()
    notify('thread/started', { thread: { id: 't1' } })
    notify('turn/started', { threadId: 't1', turn: { id: 'u1' } })
    notify(method, params)
    t.equal(tracker.runningTurns, 0, method)
    t.notOk(tracker.isLoaded('t1'), method)
  }
})

t.test('the end of the process ends everything, and the threads are still known', async (t) => {
  const { tracker, notify } = setUp()
  notify('thread/started', { thread: { id: 't1', name: 'First' } })
  notify('turn/started', { threadId: 't1', turn: { id: 'u1' } })
  notify('item/started', fileChange('i1'))
  tracker.markLoaded('t9')
  tracker.onProcessExit()
  t.equal(tracker.runningTurns, 0)
  t.notOk(tracker.isLoaded('t1') || tracker.isLoaded('t9'))
  t.equal(tracker.fileChanges('t1', 'i1'), undefined)
  t.strictSame(tracker.summaries(), [{ threadId: 't1', title: 'First', status: 'notLoaded' }])
})

t.test('file changes are kept from their announcement to their end', async (t) => {
  const { tracker, notify } = setUp()
  const expected = [{ path: '/w/a', kind: 'update', movePath: '/w/b', diff: '@@' }]
  notify('item/started', fileChange('i1'))
  t.strictSame(tracker.fileChanges('t1', 'i1'), expected)
  t.equal(tracker.fileChanges('t2', 'i1'), undefined, 'of this thread alone')
  notify('item/fileChange/patchUpdated', { threadId: 't1', itemId: 'i1', changes: [{ ...change, path: '/w/c' }] })
  t.equal(tracker.fileChanges('t1', 'i1')?.[0]?.path, '/w/c')
  notify('item/completed', fileChange('i1'))
  t.equal(tracker.fileChanges('t1', 'i1'), undefined)
  notify('item/started', { threadId: 't1', item: { type: 'commandExecution', id: 'i2', changes: [change] } })
  t.equal(tracker.fileChanges('t1', 'i2'), undefined, 'other items have none')
  for (let index = 0; index < 1000; index++) notify('item/started', fileChange(`many${index}`))
  t.equal(tracker.fileChanges('t1', 'many0'), undefined, 'not without bound')
  t.ok(tracker.fileChanges('t1', 'many999'))
})

t.test('a resolved request is passed on, with codex’s own id', async (t) => {
  const { notify, resolved } = setUp()
  notify('serverRequest/resolved', { threadId: 't1', requestId: 0 })
  notify('serverRequest/resolved', { threadId: 't1', requestId: 'x' })
  notify('serverRequest/resolved', { threadId: 't1', requestId: null })
  t.strictSame(resolved, [0, 'x'])
})

t.test('what is of no known shape changes nothing', async (t) => {
  const { tracker, notify, resolved } = setUp()
  const methods = ['thread/started', 'thread/status/changed', 'turn/started', 'turn/completed', 'item/started']
  for (const method of [...methods, 'serverRequest/resolved', 'thread/closed']) {
    for (const params of [null, [], 'x', {}, { threadId: 7 }, { thread: null }, { item: { type: 'fileChange' } }]) {
      t.doesNotThrow(() => notify(method, params))
    }
  }
  t.doesNotThrow(() => tracker.onNotification('item/agentMessage/delta', Buffer.from('not read at all')))
  t.strictSame([tracker.runningTurns, tracker.summaries(), resolved], [0, [], []])
  t.strictSame(readFileChanges('x'), [])
  t.strictSame(readFileChanges([null, { path: 7 }]), [
    { path: '', kind: 'update', diff: '' },
    { path: '', kind: 'update', diff: '' }
  ])
})
