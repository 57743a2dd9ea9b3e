import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { availableMemoryBytes } from '../src/codex/memory.ts'
import { Slots } from '../src/codex/slots.ts'
import { type Gateway, startGateway } from './support/gateway.ts'
import { codexProcessesOf, eventually, signalCodex } from './support/processes.ts'
import { call, startScriptedModel } from './support/scripted-responses.ts'
import { type Received, TestClient } from './support/ws-client.ts'

const isCold = (reason: string) => (payload: Received['payload']) =>
  payload.state === 'cold' && payload.reason === reason

/** A user with a ready process, which has been idle long enough to be taken. */
async function idleUser(t: Parameters<typeof TestClient.connect>[0], { app, address }: Gateway, userId: string) {
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=${userId}`)
  await client.waitFor('session/state', ({ state }) => state === 'ready')
  const session = app.sessions.find(userId)
  if (!session) throw new Error('no session')
  await eventually(`${userId} is idle`, 5_000, () => Date.now() - session.activity.lastActiveAtMs > 1_000)
  return client
}

t.test('open tabs, pings and reconnects cost no process; a wake brings the thread back', async (t) => {
  const { address, dataDir, app } = await startGateway(t, { IDLE_TIMEOUT_MS: '1500', HEARTBEAT_MS: '500' })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const first = await client.startTurn('remember the heron')
  await client.waitForTurnEnd(first.turnId)
  let isPinging = true
  const pings = (async () => {
    while (isPinging) await client.request('ping')
  })()
  await client.waitFor('session/state', isCold('idle'))
  isPinging = false
  await pings
  t.strictSame(await codexProcessesOf(dataDir), [])

  const { epoch } = client.ready.payload
  const back = await TestClient.connect(t, `ws://${address}/ws?userId=alice&epoch=${epoch}&since=0`)
  await back.waitFor('session/state', isCold('idle'))
  t.notOk(app.sessions.find('alice')?.hasProcess, 'who comes back starts nothing')

  const second = await back.startTurn('and the bittern', first.threadId)
  await back.waitForTurnEnd(second.turnId)
  const { thread } = await back.call('thread/read', { threadId: first.threadId, includeTurns: true })
  t.strictSame(
    thread.turns.map(({ id, status }: { id: string; status: string }) => [id, status]),
    [
      [first.turnId, 'completed'],
      [second.turnId, 'completed']
    ]
  )
  await eventually('both have all', 5_000, () => client.seqs.at(-1) === back.seqs.at(-1))
  t.strictSame(client.seqs, back.seqs)
  t.strictSame(
    back.seqs,
    Array.from({ length: back.seqs.length }, (_, index) => index + 1)
  )
  t.notOk([...client.received, ...back.received].some(({ type }) => type === 'error' || type === 'session/gap'))
})

t.test('a background terminal keeps its process; a turn, an approval and a request do, too', async (t) => {
  const model = await startScriptedModel(t)
  const { address, dataDir, app } = await startGateway(t, { MODEL_BASE_URL: model.baseUrl, MODEL: 'gpt-5.5' })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const session = () => app.sessions.find('alice')
  const prompt = model.script([call('exec_command', { cmd: 'sleep 1022', yield_time_ms: 250 })])
  const { threadId, turnId } = await client.startTurn(prompt)
  t.equal(await session()?.activity.hibernate('a turn runs'), false)
  await client.waitForTurnEnd(turnId)
  t.notOk(session()?.activity.isBusy, 'as far as the gateway sees')
  const { data } = await client.call('thread/backgroundTerminals/list', { threadId })
  t.equal(data.length, 1)
  t.equal(await session()?.activity.hibernate('a terminal runs'), false)
  t.equal((await codexProcessesOf(dataDir)).length, 1)

  await client.call('thread/backgroundTerminals/clean', { threadId })
  await eventually('the terminal is gone', 10_000, async () => {
    return (await client.call('thread/backgroundTerminals/list', { threadId })).data.length === 0
  })
  const ask = model.script([
    call('exec_command', { cmd: 'touch never.txt', sandbox_permissions: 'require_escalated', justification: 'x' })
  ])
  const asking = await client.startTurn(ask, threadId)
  const { payload } = await client.waitFor('approval/request')
  t.equal(await session()?.activity.hibernate('an approval waits'), false)
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
  await client.waitForTurnEnd(asking.turnId)

  await signalCodex(dataDir, 'SIGSTOP')
  t.equal(await session()?.activity.hibernate('codex does not say'), false)
  const waiting = client.request('thread/list', {})
  await eventually('the request is in flight', 5_000, () => session()?.activity.isBusy)
  t.equal(await session()?.activity.hibernate('a request is in flight'), false)
  await signalCodex(dataDir, 'SIGCONT')
  t.equal((await waiting).type, 'response')

  await eventually('it sleeps', 10_000, () => session()?.activity.hibernate('idle'))
  t.strictSame(await codexProcessesOf(dataDir), [])
})

t.test('a codex that does not answer whether it is idle is stopped in the end', async (t) => {
  const { address, dataDir } = await startGateway(t, { IDLE_TIMEOUT_MS: '600' })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await client.waitForTurnEnd((await client.startTurn('hello')).turnId)
  await signalCodex(dataDir, 'SIGSTOP')
  await client.waitFor('session/state', isCold('idle'))
})

t.test('requests that meet a process in any moment of its hibernation are answered', async (t) => {
  const { address, app } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn('hello')
  await client.waitForTurnEnd(turnId)
  // Later and later, until the request comes after the stop: how long codex takes to say that it is idle is its own.
  for (let stops = 0, waitMs = 0; stops < 3; waitMs = waitMs * 1.5 + 0.25) {
    const stopping = app.sessions.find('alice')?.activity.hibernate('test')
    await (waitMs === 0 ? undefined : delay(waitMs))
    const answers = [client.request('thread/read', { threadId }), client.request('thread/list', {})]
    for (const { type, payload } of await Promise.all(answers)) t.equal(type, 'response', JSON.stringify(payload))
    if (await stopping) stops++
  }
})

t.test('at MAX_PROCESSES a start takes the place of the longest idle, two starts those of two', async (t) => {
  const gateway = await startGateway(t, { MAX_PROCESSES: '2' })
  const { address, dataDir } = gateway
  const alice = await idleUser(t, gateway, 'alice')
  const bob = await idleUser(t, gateway, 'bob')
  const evicted = isCold('idle, its place was needed')

  const carol = await TestClient.connect(t, `ws://${address}/ws?userId=carol`)
  t.ok(await carol.call('thread/list', {}))
  await alice.waitFor('session/state', evicted)
  t.notOk(
    bob.received.some(({ payload }) => evicted(payload)),
    'not of who was active later'
  )
  t.ok(await bob.call('thread/list', {}))

  const tooEarly = await TestClient.connect(t, `ws://${address}/ws?userId=dave`)
  t.match(
    (await tooEarly.request('thread/list', {})).payload,
    { code: 'CC_POOL_FULL', details: { retryAfter: 5 } },
    'who was active this very second keeps the place'
  )

  for (const userId of ['bob', 'carol']) {
    const session = gateway.app.sessions.find(userId)
    await eventually(`${userId} is idle`, 5_000, () => Date.now() - (session?.activity.lastActiveAtMs ?? 0) > 1_000)
  }
  // A codex that is slow to say that it is idle keeps its place for the moment: they try again, as they are told.
  const insist = async (client: TestClient) => (await client.request('thread/list', {})).type === 'response'
  await Promise.all([alice, tooEarly].map((client) => eventually('a place', 10_000, () => insist(client))))
  for (const client of [bob, carol]) await client.waitFor('session/state', evicted)
  t.equal((await codexProcessesOf(dataDir)).length, 2)
})

t.test('when memory is short, a start ends the longest idle process', async (t) => {
  const gateway = await startGateway(t, { MEMORY_RESERVE_BYTES: String(2 ** 52) })
  const alice = await idleUser(t, gateway, 'alice')
  const bob = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=bob`)
  await alice.waitFor('session/state', isCold('idle, its memory was needed'))
  t.ok(await bob.call('thread/list', {}))
  t.ok(await alice.call('thread/list', {}), 'and it comes back when it is needed')
})

t.test('a sweep ends idle processes, too, while memory is short', async (t) => {
  const gateway = await startGateway(t, { MEMORY_RESERVE_BYTES: String(2 ** 52), IDLE_TIMEOUT_MS: '10000' })
  const alice = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice`)
  await alice.waitFor('session/state', isCold('idle, its memory was needed'))
})

t.test('app.close() in the middle of an eviction is bounded, and nobody is left waiting', async (t) => {
  const gateway = await startGateway(t, { MAX_PROCESSES: '1' })
  const alice = await idleUser(t, gateway, 'alice')
  await signalCodex(gateway.dataDir, 'SIGSTOP')
  const bob = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=bob`)
  const waiting = bob.request('thread/list', {})
  await eventually('bob’s request waits', 5_000, () => gateway.app.sessions.find('bob')?.activity.isBusy)
  await eventually(
    'alice’s process is being stopped',
    5_000,
    () => gateway.app.sessions.find('alice')?.hasProcess === false
  )
  const startMs = performance.now()
  const closed = Promise.all([alice, bob].map(({ socket }) => once(socket, 'close')))
  await gateway.close()
  t.ok(performance.now() - startMs < 4_000, `closed after ${performance.now() - startMs} ms`)
  t.match((await waiting).payload, { code: 'CC_SHUTTING_DOWN' })
  await closed
  t.strictSame(await codexProcessesOf(gateway.dataDir), [])
})

t.test('places go to whoever waits longest, and to nobody who comes in between', async (t) => {
  const slots = new Slots(1)
  const none = async () => false
  await slots.take(none)
  const order: string[] = []
  let isFreed = () => {}
  const room = new Promise<boolean>((resolve) => {
    isFreed = () => {
      slots.release()
      resolve(true)
    }
  })
  const first = slots.take(() => room).then(() => order.push('first'))
  await t.rejects(slots.take(none), { code: 'CC_POOL_FULL', details: { retryAfter: 5 } })
  isFreed()
  await t.rejects(slots.take(none), { code: 'CC_POOL_FULL' }, 'the place is the first one’s already')
  await first
  t.strictSame(order, ['first'])
  t.equal(slots.taken, 1)

  const abort = new AbortController()
  const waiting = slots.take(() => new Promise(() => {}), abort.signal)
  abort.abort()
  await t.rejects(waiting, { code: 'CC_SHUTTING_DOWN' })
  await t.rejects(
    slots.take(async () => Promise.reject(new Error('asked in vain'))),
    { message: 'asked in vain' }
  )
  slots.release()
  t.equal(slots.taken, 0, 'no place is kept for who gave up')
})

t.test('available memory is that of the machine or of the tightest cgroup, without what is only cached', async (t) => {
  const reader = (files: Record<string, string>) => async (path: string) => {
    const text = files[path]
    if (text === undefined) throw new Error(`no ${path}`)
    return text
  }
  const machine = { '/proc/meminfo': 'MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:  5000 kB\n' }
  const group = (path: string, max: string, current: string, cached = '0') => ({
    [`${path}/memory.max`]: `${max}\n`,
    [`${path}/memory.current`]: `${current}\n`,
    [`${path}/memory.stat`]: `anon 1\ninactive_file ${cached}\nactive_file 7\n`
  })
  const inGroup = { '/proc/self/cgroup': '0::/a/b\n' }
  const cases: [string, Record<string, string>, number][] = [
    ['nothing can be read', {}, Number.POSITIVE_INFINITY],
    ['no cgroup', machine, 5000 * 1024],
    ['cgroup v1 alone', { ...machine, '/proc/self/cgroup': '4:memory:/x\n0::/\n' }, 5000 * 1024],
    ['no limit', { ...machine, ...inGroup, ...group('/sys/fs/cgroup/a/b', 'max', '1') }, 5000 * 1024],
    ['a limit of its own', { ...machine, ...inGroup, ...group('/sys/fs/cgroup/a/b', '4000000', '1000000') }, 3_000_000],
    ['with cache', { ...machine, ...inGroup, ...group('/sys/fs/cgroup/a/b', '4000000', '3900000', '100000') }, 200_000],
    ['a limit above', { ...machine, ...inGroup, ...group('/sys/fs/cgroup/a', '4000000', '3000000') }, 1_000_000],
    ['seen as the root', { ...machine, ...inGroup, ...group('/sys/fs/cgroup', '500', '600') }, 0]
  ]
  for (const [name, files, bytes] of cases) t.equal(await availableMemoryBytes(reader(files)), bytes, name)
  t.ok((await availableMemoryBytes()) > 0)
})
