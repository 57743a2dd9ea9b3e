import t from 'tap'
import type { RpcId } from '../../src/codex/classify.ts'
import { readFileChanges } from '../../src/session/announced-changes.ts'
import { interruptedTurnEvent } from '../../src/session/interrupted-turn.ts'
import { MAX_THREADS, type StoredThread } from '../../src/session/session-state.ts'
import { ThreadTracker } from '../../src/session/thread-tracker.ts'

function setUp(known: StoredThread[] = []) {
  const resolved: RpcId[] = []
  const stored = new Map<string, StoredThread>()
  const store = {
    async saveThread(threadId: string, thread: StoredThread | undefined) {
      if (thread === undefined) stored.delete(threadId)
      else stored.set(threadId, thread)
    }
  }
  const tracker = new ThreadTracker((id) => resolved.push(id), store, known)
  const notify = (method: string, params: unknown) =>
    tracker.onNotification(method, Buffer.from(JSON.stringify({ method, params })))
  return { tracker, notify, resolved, stored }
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
  await tracker.onDescribed({ id: 't9' }, true)
  t.match(tracker.onProcessExit(), [{ threadId: 't1', turnId: 'u1' }], 'the turn that ran')
  t.strictSame(tracker.onProcessExit(), [], 'is interrupted once')
  t.equal(tracker.runningTurns, 0)
  t.notOk(tracker.isLoaded('t1') || tracker.isLoaded('t9'))
  t.equal(tracker.fileChanges('t1', 'i1'), undefined)
  t.strictSame(tracker.summaries(), [
    { threadId: 't1', title: 'First', status: 'notLoaded', lastTurn: { turnId: 'u1', status: 'interrupted' } },
    { threadId: 't9', title: null, status: 'notLoaded' }
  ])
})

t.test('what lasts of a thread is kept, and taken up again', async (t) => {
  const { notify, stored } = setUp()
  notify('thread/started', { thread: { id: 't1', name: null, preview: '' } })
  notify('thread/started', { thread: { id: 't2', name: 'Second', preview: 'never shown' } })
  notify('thread/started', { thread: { id: 't3', ephemeral: true } })
  const content = [
    { type: 'text', text: `${'x'.repeat(198)}é` },
    { type: 'text', text: '😀 and more' }
  ]
  notify('item/started', { threadId: 't1', item: { type: 'userMessage', id: 'i', content } })
  notify('item/started', { threadId: 't1', item: { type: 'userMessage', id: 'j', content: [{ text: 'later' }] } })
  notify('turn/started', { threadId: 't1', turn: { id: 'u0', rootTurnId: 'u0', startedAt: 7 } })
  notify('turn/completed', { threadId: 't1', turn: { id: 'u0', status: 'failed' } })
  notify('turn/started', { threadId: 't1', turn: { id: 'u1', rootTurnId: 'u0', startedAt: 8 } })
  t.notOk(stored.has('t3'), 'an ephemeral thread ends with its process')

  const next = setUp([...stored.values()])
  const preview = `${'x'.repeat(198)}é`
  const lastTurn = { turnId: 'u0', status: 'failed' }
  t.strictSame(next.tracker.summaries(), [
    { threadId: 't1', title: preview, status: 'notLoaded', turnId: 'u1', lastTurn },
    { threadId: 't2', title: 'Second', status: 'notLoaded' }
  ])
  const [turn, ...others] = next.tracker.onProcessExit()
  t.match(turn, { threadId: 't1', turnId: 'u1', rootTurnId: 'u0', startedAt: 8 })
  t.strictSame(others, [])
  t.match(next.stored.get('t1'), { turn: undefined, lastTurn: { turnId: 'u1', status: 'interrupted' } })
  next.notify('thread/archived', { threadId: 't1' })
  t.notOk(next.stored.has('t1'))
})

t.test('more threads than the bound: the oldest that nobody uses goes', async (t) => {
  const { tracker, notify, stored } = setUp()
  notify('turn/started', { threadId: 'oldest', turn: { id: 'u1' } })
  for (let index = 0; index < MAX_THREADS; index++) notify('thread/name/updated', { threadId: `t${index}` })
  t.equal(tracker.summaries().length, MAX_THREADS)
  t.strictSame([stored.has('oldest'), stored.has('t0'), stored.has('t1')], [true, false, true])
})

t.test('the end of a turn that nobody saw has no time', async (t) => {
  const turn = { threadId: 't1', turnId: 'u1', rootTurnId: 'u0', startedAt: 8, startedAtMs: 8_100 }
  t.match(interruptedTurnEvent(turn, 9_500).params.turn, { startedAt: 8, completedAt: 9, durationMs: 1_400 })
  t.match(interruptedTurnEvent(turn, null).params.turn, { startedAt: 8, completedAt: null, durationMs: null })
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
