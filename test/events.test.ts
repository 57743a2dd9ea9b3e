import t, { type Test } from 'tap'
import { EventSource, type SentEvent } from './support/event-source.ts'
import { type Gateway, scratchDirectory, startGateway } from './support/gateway.ts'
import { eventually } from './support/processes.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { type Received, TestClient } from './support/ws-client.ts'

interface Page {
  epoch: string
  events: (Received & { seq: number; replaces?: { from: number; to: number } })[]
  next: string
  gap?: { from: number; to: number }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
const numbered = (received: Received[]) => received.filter(({ seq }) => seq !== undefined)
const messages = (events: SentEvent[]) => events.map(({ message }) => message)

/** Numbers that were received or replaced, in order, each once. */
function covered(received: { seq?: number; replaces?: { from: number; to: number } }[]): number[] {
  const all = received.flatMap(({ seq, replaces }) => [
    ...(seq === undefined ? [] : [seq]),
    ...(replaces ? numbers(replaces.from, replaces.to) : [])
  ])
  return [...new Set(all)].sort((a, b) => a - b)
}

async function setUp(t: Test, variables: Record<string, string> = {}) {
  const gateway = await startGateway(t, variables)
  const client = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice`)
  const url = (path = '/api/events', query = '') => `http://${gateway.address}${path}?userId=alice${query}`
  return { gateway, client, url, epoch: client.ready.payload.epoch as string }
}

/** All pages from `after` on, as a script that polls gets them. */
async function readPages(gateway: Gateway, path: string, query: string, after?: string): Promise<Page[]> {
  const pages: Page[] = []
  for (let place = after; pages.length < 10_000; ) {
    const url = `${path}?userId=alice${query}${place === undefined ? '' : `&after=${place}`}`
    const response = await gateway.app.inject(url)
    if (response.statusCode !== 200) throw new Error(`${url}: ${response.statusCode} ${response.body}`)
    const page = response.json() as Page
    if (page.next === place) return pages
    pages.push(page)
    place = page.next
  }
  throw new Error('the pages do not end')
}

t.test('a stream has what /ws has: session/ready, then each event with its place, type and message', async (t) => {
  const { client, url, epoch } = await setUp(t)
  await client.waitFor('session/state')
  const stream = await EventSource.open(t, url())
  const ready = await stream.waitFor('session/ready', () => true)
  t.match(ready, { type: 'session/ready', message: { payload: { userId: 'alice', epoch } } })
  t.equal(ready.id, `${epoch}:${ready.message.payload.seq}`, 'a stream that is cut now goes on here')
  t.match(stream.headers, { 'cache-control': /no-store/, 'x-accel-buffering': 'no' })
  t.ok((stream.retryMs ?? 0) >= 500 && (stream.retryMs ?? 0) <= 2_500, `retry: ${stream.retryMs}`)

  const { turnId } = await client.startTurn('flood: 500')
  await Promise.all([client.waitForTurnEnd(turnId), stream.waitForTurnEnd(turnId)])
  const own = stream.events.slice(1)
  t.ok(own.length > 500)
  for (const { id, type, message } of own) {
    if (id !== `${epoch}:${message.seq}` || type !== message.type) t.fail(`${id} ${type}: ${JSON.stringify(message)}`)
  }
  const last = stream.seqs.at(-1) ?? 0
  const theirs = numbered(client.received).filter(({ seq = 0 }) => seq > ready.message.payload.seq && seq <= last)
  t.strictSame(messages(own), theirs)
})

t.test('a stream that is cut at random goes on by its Last-Event-ID: every event once, in order', async (t) => {
  const { client, url, epoch } = await setUp(t)
  const { turnId } = await client.startTurn('flood: 4000')
  const seqs: number[] = []
  let lastEventId = `${epoch}:0`
  let connections = 0
  for (let isDone = false; !isDone; connections++) {
    // The address of the first connection stays what it was: the header goes before it.
    const stream = await EventSource.open(t, url('/api/events', `&after=${epoch}:0`), { lastEventId })
    t.notOk((await stream.waitFor('ready', () => true)).hasOwnId, 'session/ready leaves the place where it was')
    const isEnd = ({ message: { payload } }: SentEvent) =>
      payload?.params?.turn?.id === turnId && payload.method === 'turn/completed'
    const stopAt = 1 + ((connections * 379) % 1100)
    await stream.until('enough', () => stream.events.length > stopAt || stream.events.some(isEnd))
    stream.cut()
    seqs.push(...stream.seqs)
    lastEventId = stream.lastEventId
    isDone = stream.events.some(isEnd)
  }
  t.ok(connections > 4, `${connections} connections`)
  t.ok(seqs.length > 4000)
  t.strictSame(seqs, numbers(1, seqs.length))
})

t.test('pages have the same events, exactly; the last one is that which repeats its place', async (t) => {
  const { gateway, client, url, epoch } = await setUp(t)
  const { turnId } = await client.startTurn('flood: 700')
  await client.waitForTurnEnd(turnId)
  await client.call('thread/list', {})
  const replayed = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice&epoch=${epoch}&since=0`)
  await replayed.waitForTurnEnd(turnId)
  const all = numbered(replayed.received)
  const last = all.length
  t.strictSame(replayed.seqs, numbers(1, last))

  for (const limit of [1000, 300, 7]) {
    const pages = await readPages(
      gateway,
      '/api/events',
      `&limit=${limit}`,
      limit === 7 ? `${epoch}:${last - 20}` : undefined
    )
    const events = pages.flatMap((page) => page.events)
    t.strictSame(events, limit === 7 ? all.slice(-20) : all, `limit ${limit}`)
    t.ok(pages.every((page) => page.epoch === epoch && page.events.length <= limit && page.gap === undefined))
  }
  const { events, next } = (await gateway.app.inject(url('/api/events'))).json() as Page
  t.equal(events.length, 100, 'by default')
  t.equal(next, `${epoch}:100`)

  await t.test('compact ones leave deltas out and prove that nothing else is missing', async (t) => {
    for (const limit of [1, 5, 17, 1000]) {
      const pages = await readPages(gateway, '/api/events', `&compact=true&limit=${limit}`)
      let place = 0
      for (const page of pages) {
        const next = Number(page.next.split(':')[1])
        t.ok(page.events.length <= limit)
        t.strictSame(covered(page.events), numbers(place + 1, next), `limit ${limit}: ${page.next}`)
        place = next
      }
      t.equal(place, last)
    }
    const [page] = await readPages(gateway, '/api/events', '&compact=true&limit=1000')
    t.ok(page && page.events.length < 60, `${page?.events.length} of ${last} events`)
    const folded = page?.events.find(({ replaces }) => replaces)
    t.match(folded?.payload, {
      method: 'item/completed',
      params: { item: { type: 'agentMessage', text: /^tok0 .*tok699 $/ } }
    })
    const exact = all.find(({ seq }) => seq === folded?.seq)
    t.strictSame({ ...exact, replaces: folded?.replaces }, folded)
  })

  await t.test('so does a compact stream, and a compact session/resume', async (t) => {
    const stream = await EventSource.open(t, url('/api/events', `&compact=true&after=${epoch}:0`))
    await stream.waitForTurnEnd(turnId)
    t.strictSame(covered(messages(stream.events)), numbers(1, last))
    t.ok(stream.events.length < 60, `${stream.events.length} events`)
    const socket = await TestClient.connect(t, `ws://${gateway.address}/ws?userId=alice`)
    await socket.call('session/resume', { epoch, since: 0, compact: true })
    await socket.waitForTurnEnd(turnId)
    t.strictSame(numbered(socket.received), numbered(messages(stream.events)))
  })
})

t.test('what is gone is a gap: in a stream with the state instead, in a page as its range', async (t) => {
  const { gateway, client, url, epoch } = await setUp(t, { JOURNAL_MAX_EVENTS: '200' })
  const { threadId, turnId } = await client.startTurn('flood: 6000')
  await client.waitForTurnEnd(turnId)
  await client.call('thread/list', {})
  const last = client.seqs.at(-1) ?? 0
  // What was stored before the flood stays until the flood is stored, too.
  await eventually('the past is gone', 5_000, async () => {
    const { gap } = (await gateway.app.inject(url('/api/events', `&after=${epoch}:3&limit=1`))).json() as Page
    return gap?.from === 4
  })

  for (const after of [`${epoch}:3`, `${epoch}:${last + 5}`, 'another:3']) {
    const stream = await EventSource.open(t, url('/api/events', `&after=${after}`))
    const gap = await stream.waitFor('session/gap', ({ type }) => type === 'session/gap')
    const { id, message } = await stream.waitFor('session/snapshot', ({ type }) => type === 'session/snapshot')
    t.notOk(gap.hasOwnId)
    t.match(message.payload, { epoch, seq: gap.message.payload.to, threads: [{ threadId }] })
    t.equal(id, `${epoch}:${gap.message.payload.to}`, 'a stream that is cut now goes on behind the gap')
    stream.cut()

    const page = (await gateway.app.inject(url('/api/events', `&after=${after}&limit=1000`))).json() as Page
    t.strictSame(page.gap, { from: gap.message.payload.from, to: gap.message.payload.to })
    const { to } = page.gap ?? { to: 0 }
    t.strictSame(
      page.events.map(({ seq }) => seq),
      numbers(to + 1, Number(page.next.split(':')[1]))
    )
    t.equal(Number(page.next.split(':')[1]), Math.max(to, page.events.at(-1)?.seq ?? 0))
  }
  const fresh = (await gateway.app.inject(url('/api/events', '&limit=1000'))).json() as Page
  t.equal(fresh.gap, undefined, 'who asks for no place misses nothing')
  t.ok((fresh.events[0]?.seq ?? 0) > 1)
})

t.test('a thread’s events are its own: no other thread’s, also not by their approvals', async (t) => {
  const { gateway, client, url, epoch } = await setUp(t, { HEARTBEAT_MS: '1000' })
  const [one, two] = await Promise.all(
    ['a', 'b'].map(async () => (await client.call('thread/start', {})).threadId as string)
  )
  if (one === undefined || two === undefined) throw new Error('unreachable')
  const path = `/api/threads/${one}/events`
  const stream = await EventSource.open(t, url(path))
  const turns = await Promise.all([
    client.startTurn('escalate: touch own', one),
    client.startTurn('escalate: touch other', two)
  ])
  for (const { threadId } of turns) {
    const { payload } = await client.waitFor('approval/request', (approval) => approval.threadId === threadId)
    await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
  }
  await Promise.all(turns.map(({ turnId }) => client.waitForTurnEnd(turnId)))
  const flood = await client.startTurn('flood: 300', two)
  await client.waitForTurnEnd(flood.turnId)
  await stream.waitForTurnEnd(turns[0]?.turnId ?? '')
  await client.call('thread/list', {})
  const last = client.seqs.at(-1) ?? 0

  const text = JSON.stringify(stream.events)
  t.notOk(text.includes(two), 'nothing names the other thread')
  const concerns = ({ type, payload }: Received, threadId: string) =>
    type === 'event'
      ? (payload.params.threadId ?? payload.params.thread?.id) === threadId
      : payload.threadId === threadId
  const approval = client.received.find((message) => message.type === 'approval/request' && concerns(message, one))
  const expected = numbered(client.received).filter(
    (message) =>
      (message.seq ?? 0) > (stream.events[0]?.message.payload.seq ?? 0) &&
      (concerns(message, one) ||
        message.type === 'session/state' ||
        message.payload.approvalId === approval?.payload.approvalId)
  )
  t.ok(expected.length > 15)
  t.strictSame(messages(stream.events.filter(({ hasOwnId }) => hasOwnId)).slice(1), expected)

  await t.test('its heartbeats move its place past what is not shown', async (t) => {
    await stream.until('a heartbeat with the newest place', () => stream.lastEventId === `${epoch}:${last}`)
    t.ok((stream.seqs.at(-1) ?? 0) < last)
  })

  await t.test('its pages say the same, also when they show nothing', async (t) => {
    for (const query of ['&limit=3', '&limit=1000', '&limit=10&compact=true']) {
      const pages = await readPages(gateway, path, query)
      const events = pages.flatMap((page) => page.events)
      t.notOk(JSON.stringify(events).includes(two))
      t.equal(Number(pages.at(-1)?.next.split(':')[1]), last)
      if (query.includes('compact')) continue
      // The end of an approval names no thread: where its request came on an earlier page, everybody hears of it.
      const isKnown = ({ type, payload }: Received) =>
        type !== 'approval/resolved' || payload.approvalId === approval?.payload.approvalId
      const isLater = ({ seq }: { seq: number }) => seq > (stream.events[0]?.message.payload.seq ?? 0)
      t.strictSame(
        events.filter((event) => isLater(event) && isKnown(event)),
        expected
      )
    }
  })

  await t.test('the state that stands for a gap is cut down to it', async (t) => {
    const gap = await EventSource.open(t, url(path, '&after=another:1'))
    const { message } = await gap.waitFor('a snapshot', ({ type }) => type === 'session/snapshot')
    t.strictSame(
      message.payload.threads.map(({ threadId }: { threadId: string }) => threadId),
      [one]
    )
  })

  await t.test('a thread that only codex’s history knows is found there, and none is 404', async (t) => {
    await client.call('thread/archive', { threadId: two })
    t.equal((await gateway.app.inject(url(`/api/threads/${two}/events`))).statusCode, 200)
    for (const threadId of ['01a20422-f50a-7203-a90d-697c2df55c00', 'nonsense']) {
      const refused = await gateway.app.inject(url(`/api/threads/${threadId}/events`))
      t.equal(refused.statusCode, 404, threadId)
      t.match(refused.json(), { error: { code: 'CC_NOT_FOUND' } })
    }
  })
})

t.test('nobody reads another’s events, and bad requests are coded errors', async (t) => {
  const gateway = await startGateway(t, { JWT_SECRET: TEST_SECRET })
  const [alice, bob] = [await bearer('alice'), await bearer('bob')]
  const client = await TestClient.connect(t, `ws://${gateway.address}/ws`, { headers: alice })
  const { threadId, turnId } = await client.startTurn('hello alice-private-word')
  await client.waitForTurnEnd(turnId)
  const { epoch } = client.ready.payload
  const stream = 'text/event-stream'
  const base = `http://${gateway.address}/api`

  const theirs = await EventSource.open(t, `${base}/events?after=${epoch}:0`, { headers: bob })
  await theirs.waitFor('a snapshot', ({ type }) => type === 'session/snapshot')
  const page = await gateway.app.inject({ url: `/api/events?after=${epoch}:0`, headers: bob })
  for (const got of [JSON.stringify(theirs.events), page.body]) {
    t.notMatch(got, /alice|private/)
    t.notOk(got.includes(epoch) || got.includes(threadId))
  }
  for (const [options, statusCode, code] of [
    [{ url: '/api/events' }, 401, 'CC_UNAUTHORIZED'],
    [{ url: '/api/events', headers: { accept: stream } }, 401, 'CC_UNAUTHORIZED'],
    [{ url: '/api/events?userId=alice', headers: { accept: stream, ...bob } }, 403, 'CC_FORBIDDEN'],
    [{ url: `/api/threads/${threadId}/events`, headers: { accept: stream, ...bob } }, 404, 'CC_NOT_FOUND'],
    [{ url: '/api/events?after=5', headers: alice }, 400, 'CC_VALIDATION'],
    [{ url: `/api/events?after=${epoch}:-1`, headers: alice }, 400, 'CC_VALIDATION'],
    [{ url: `/api/events?after=${epoch}:1e3`, headers: { accept: stream, ...alice } }, 400, 'CC_VALIDATION'],
    [{ url: `/api/events?limit=0`, headers: alice }, 400, 'CC_VALIDATION'],
    [{ url: `/api/events?limit=1001`, headers: alice }, 400, 'CC_VALIDATION'],
    [{ url: `/api/events?since=1`, headers: alice }, 400, 'CC_VALIDATION'],
    [{ url: '/api/events', headers: { accept: stream, 'last-event-id': 'x', ...alice } }, 400, 'CC_VALIDATION']
  ] as const) {
    const response = await gateway.app.inject(options)
    t.equal(response.statusCode, statusCode, options.url)
    t.match(response.json(), { error: { code } }, options.url)
  }
  const head = await gateway.app.inject({ method: 'HEAD', url: '/api/events', headers: { accept: stream, ...alice } })
  t.equal(head.statusCode, 404, 'a HEAD opens no stream')

  await t.test('a viewer may read, and a ticket opens a stream where no header can be sent', async (t) => {
    const viewer = await bearer('alice', { roles: ['viewer'] })
    t.ok(await EventSource.open(t, `${base}/threads/${threadId}/events?after=${epoch}:0`, { headers: viewer }))
    const { ticket } = (await gateway.app.inject({ method: 'POST', url: '/api/tickets', headers: alice })).json()
    const bare = await EventSource.open(t, `${base}/events?ticket=${ticket}&after=${epoch}:0`)
    await bare.waitForTurnEnd(turnId)
    await t.rejects(EventSource.open(t, `${base}/events?ticket=${ticket}`), new Error('HTTP 401'))
  })

  await t.test('the end of the token ends the stream, and says so', async (t) => {
    const short = await bearer('alice', { exp: Math.floor(Date.now() / 1000) + 1 })
    const ending = await EventSource.open(t, `${base}/events`, { headers: short })
    await ending.until('its end', () => ending.isEnded)
    t.match(ending.events.at(-1), { type: 'session/closed', message: { payload: { code: 4401, reason: /token/ } } })
  })
})

t.test('a stream lives through a clean restart of the gateway, which tells it to come back', async (t) => {
  const dataDir = await scratchDirectory(t)
  const { gateway, client, url, epoch } = await setUp(t, { DATA_DIR: dataDir })
  const stream = await EventSource.open(t, url('/api/events', `&after=${epoch}:0`))
  const { threadId, turnId } = await client.startTurn('flood: 300')
  await stream.waitForTurnEnd(turnId)
  const startMs = performance.now()
  await gateway.close()
  await stream.until('its end', () => stream.isEnded)
  t.ok(performance.now() - startMs < 5_000)
  t.match(stream.events.at(-1), {
    type: 'session/closed',
    message: { payload: { code: 1001, reason: /shutting down/ } }
  })

  const again = await setUp(t, { DATA_DIR: dataDir })
  const { lastEventId } = stream
  const resumed = await EventSource.open(t, again.url(), { lastEventId })
  const next = await again.client.startTurn('hello', threadId)
  await resumed.waitForTurnEnd(next.turnId)
  t.strictSame([...stream.seqs, ...resumed.seqs], numbers(1, resumed.seqs.at(-1) ?? 0))
  const pages = await readPages(again.gateway, `/api/threads/${threadId}/events`, '&compact=true')
  t.match(JSON.stringify(pages), /tok0 tok1/)
})

t.test(
  'a stream that is read slowly gets all; one that is not read at all is ended, at no cost to others',
  async (t) => {
    const { gateway, client, url, epoch } = await setUp(t, { CLIENT_STALL_TIMEOUT_MS: '1500', HEARTBEAT_MS: '1000' })
    const slow = await EventSource.open(t, url('/api/events', `&after=${epoch}:0`))
    const stalled = await EventSource.open(t, url('/api/events', `&after=${epoch}:0`))
    slow.pause()
    stalled.pause()
    const beat = setInterval(() => {
      slow.resume()
      setTimeout(() => slow.pause(), 30)
    }, 120)
    t.teardown(() => clearInterval(beat))
    const { turnId } = await client.startTurn('flood: 60000')
    await Promise.all([client.waitForTurnEnd(turnId), slow.waitForTurnEnd(turnId)])
    t.strictSame(slow.seqs, numbers(1, slow.seqs.length))
    t.ok(slow.seqs.length > 60_000)

    const session = gateway.app.sessions.find('alice')
    await eventually('its place is free, though it reads nothing', 10_000, () => session?.clientCount === 2)
    stalled.resume()
    await stalled.until('its end', () => stalled.isEnded)
    t.ok(stalled.seqs.length < slow.seqs.length)
    t.strictSame(stalled.seqs, numbers(1, stalled.seqs.length), 'what came is whole, and it can resume behind it')
  }
)

t.test('an idle stream hears a heartbeat', async (t) => {
  const { url } = await setUp(t, { HEARTBEAT_MS: '50' })
  const stream = await EventSource.open(t, url())
  await stream.until('five heartbeats', () => stream.comments.length >= 5)
  t.ok(stream.comments.every((comment) => comment === 'heartbeat'))
  t.notOk(stream.isEnded)
})
