import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startGateway } from './support/gateway.ts'
import { eventually } from './support/processes.ts'
import { RandomNumbers } from './support/random-numbers.ts'
import { type Received, TestClient } from './support/ws-client.ts'

/** Everything with a number, by number. */
const numbered = (received: Received[]) =>
  new Map(received.flatMap((message) => (message.seq ? [[message.seq, message]] : [])))

/** True when `seqs` are `first`, `first` + 1, … without a hole or a repetition. */
function isRun(seqs: number[], first: number): boolean {
  return seqs.every((seq, index) => seq === first + index)
}

t.test('all clients of a user get the same events with the same numbers', async (t) => {
  const { address } = await startGateway(t)
  const url = `ws://${address}/ws?userId=alice`
  const clients = await Promise.all([1, 2, 3].map(() => TestClient.connect(t, url)))
  const [first, ...others] = clients
  const { turnId } = (await first?.startTurn('flood: 2000')) ?? { turnId: '' }
  await Promise.all(clients.map((client) => client.waitForTurnEnd(turnId)))
  const late = await TestClient.connect(t, `${url}&epoch=${first?.ready.payload.epoch}&since=0`)
  await late.waitForTurnEnd(turnId)

  const expected = numbered(late.received)
  t.ok(expected.size > 2000)
  t.ok(isRun(late.seqs, 1), 'the one that came late has everything from 1 on')
  for (const client of [first, ...others]) {
    const { seqs, ready, received } = client as TestClient
    t.ok(isRun(seqs, ready.payload.seq + 1))
    for (const message of numbered(received).values()) {
      if (JSON.stringify(message) !== JSON.stringify(expected.get(message.seq ?? 0)))
        t.fail(`event ${message.seq} differs`)
    }
  }
})

t.test('a client that reconnects at random gets every later event exactly once, in order', async (t) => {
  const { address } = await startGateway(t)
  const url = `ws://${address}/ws?userId=alice`
  const steady = await TestClient.connect(t, url)
  const { epoch, seq: startSeq } = steady.ready.payload
  const random = new RandomNumbers(20_260_730)
  const { turnId } = await steady.startTurn('flood: 6000')

  const seqs: number[] = []
  const isDone = (received: Received[]) =>
    received.some(({ payload }) => payload?.method === 'turn/completed' && payload.params.turn.id === turnId)
  let connections = 0
  for (let done = false; !done; connections++) {
    const since = seqs.at(-1) ?? startSeq
    const isByMessage = random.next() < 0.3
    const client = await TestClient.connect(t, isByMessage ? url : `${url}&epoch=${epoch}&since=${since}`)
    const stopAt = random.next() < 0.2 ? 0 : Math.floor(random.next() * 1500)
    if (isByMessage) {
      await client.call('session/resume', { epoch, since })
    }
    await eventually('enough, or the end', 20_000, () => isDone(client.received) || client.received.length >= stopAt)
    client.socket.terminate()
    // After session/resume a client drops what it has already; nothing else may come twice.
    const fresh = isByMessage ? afterRestart(client.received, since) : client.seqs
    t.ok(isRun(fresh, since + 1), `connection ${connections} goes on at ${since + 1}`)
    seqs.push(...fresh)
    done = isDone(client.received)
  }
  t.ok(connections > 2, `${connections} connections`)
  await steady.waitForTurnEnd(turnId)
  t.ok(isRun(seqs, startSeq + 1))
  t.ok(seqs.length > 6000, `${seqs.length} events`)
})

t.test('what a client cannot have is told as a gap: received and gaps are all numbers, each once', async (t) => {
  const { address } = await startGateway(t, { JOURNAL_MAX_EVENTS: '300' })
  const url = `ws://${address}/ws?userId=alice`
  const steady = await TestClient.connect(t, url)
  const { epoch } = steady.ready.payload
  const { threadId, turnId } = await steady.startTurn('flood: 1000')
  await steady.waitForTurnEnd(turnId)
  const last = steady.seqs.at(-1) ?? 0

  // What is out of bounds may be read for a moment yet: from memory, until it is trimmed.
  await t.test('from the start, and from within what is gone', async (t) => {
    const findGap = async () => {
      const client = await TestClient.connect(t, `${url}&epoch=${epoch}&since=0`)
      await client.waitForTurnEnd(turnId)
      client.socket.terminate()
      // What was stored before the flood stays until the flood is stored, too: the gap is in the middle for so long.
      const gap = client.received.find(({ type, payload }) => type === 'session/gap' && payload.from === 1)
      return gap?.payload.to as number | undefined
    }
    let to = await findGap()
    for (const deadlineMs = Date.now() + 20_000; to === undefined && Date.now() < deadlineMs; to = await findGap()) {
      await delay(200)
    }
    t.ok(to !== undefined && to > 17 && to <= last - 300, `1 to ${to} of ${last} are gone`)
    for (const since of [0, 17, (to ?? 0) - 1]) {
      const client = await TestClient.connect(t, `${url}&epoch=${epoch}&since=${since}`)
      await client.waitForTurnEnd(turnId)
      t.strictSame(covered(client.received), numbers(since + 1, client.seqs.at(-1) ?? 0), `since ${since}`)
      const gap = await client.waitFor('session/gap')
      t.match(gap.payload, { epoch, from: since + 1 })
      t.ok(gap.payload.to >= (to ?? 0), 'what was gone stays gone')
      const { payload } = await client.waitFor('session/snapshot')
      t.match(payload, { epoch, seq: gap.payload.to, threads: [{ threadId }], pendingApprovals: [] })
    }
  })

  await t.test('no gap where nothing is gone', async (t) => {
    for (const since of [last - 300, last]) {
      const client = await TestClient.connect(t, `${url}&epoch=${epoch}&since=${since}`)
      await client.call('thread/list', {})
      t.strictSame(client.seqs.slice(0, last - since), numbers(since + 1, last))
      t.notOk(client.received.some(({ type }) => type === 'session/gap'))
    }
  })

  await t.test('another epoch, and a number that never was', async (t) => {
    for (const position of [`epoch=other&since=${last}`, `epoch=${epoch}&since=${last + 1000}`]) {
      const client = await TestClient.connect(t, `${url}&${position}`)
      const { payload } = await client.waitFor('session/gap')
      t.match(payload, { epoch, from: 1 })
      t.ok(payload.to >= last)
      t.equal((await client.waitFor('session/snapshot')).payload.seq, payload.to)
      const next = await client.startTurn('hello', threadId)
      await client.waitForTurnEnd(next.turnId)
      t.ok(isRun(client.seqs, payload.to + 1), 'and goes on behind the gap')
    }
  })

  await t.test('a restart of the gateway: the old place leads to a gap, even before there is any event', async (t) => {
    const again = await startGateway(t)
    const fresh = await TestClient.connect(t, `ws://${again.address}/ws?userId=alice&epoch=${epoch}&since=${last}`)
    t.not(fresh.ready.payload.epoch, epoch)
    const { payload } = await fresh.waitFor('session/gap')
    t.equal(payload.epoch, fresh.ready.payload.epoch)
    await fresh.waitFor('session/snapshot')
  })
})

t.test('a client that stops reading costs bounded memory, slows nobody, and catches up exactly', async (t) => {
  const { app, address } = await startGateway(t)
  const url = `ws://${address}/ws?userId=alice`
  const steady = await TestClient.connect(t, url)
  const slow = await TestClient.connect(t, url)
  // Reads nothing: neither the library nor the kernel takes more than their buffers hold.
  ;(slow.socket as unknown as { _socket: Socket })._socket.pause()
  const unsent = () => {
    const sizes = [...app.websocketServer.clients].map(({ bufferedAmount }) => bufferedAmount)
    return Math.max(...sizes)
  }
  let most = 0
  const watch = setInterval(() => (most = Math.max(most, unsent())), 5)
  t.teardown(() => clearInterval(watch))

  const { turnId, threadId } = await steady.startTurn('flood: 40000')
  await steady.waitForTurnEnd(turnId)
  const sentBytes = JSON.stringify(steady.received).length
  t.ok(isRun(steady.seqs, steady.ready.payload.seq + 1))
  t.ok(sentBytes > 10 * 1024 * 1024, `${sentBytes} bytes went to the one that reads`)
  most = Math.max(most, unsent())
  t.ok(most > 100_000, 'the other one did fall behind')
  t.ok(most < 3 * 1024 * 1024, `at most ${most} bytes waited in memory for the one that does not`)
  t.ok(slow.received.length < steady.received.length)

  ;(slow.socket as unknown as { _socket: Socket })._socket.resume()
  await slow.waitForTurnEnd(turnId)
  t.ok(isRun(slow.seqs, slow.ready.payload.seq + 1), 'nothing twice, nothing missing')
  t.strictSame(slow.seqs.slice(-100), steady.seqs.slice(-100))
  const next = await steady.startTurn('hello', threadId)
  await Promise.all([steady, slow].map((client) => client.waitForTurnEnd(next.turnId)))
  t.equal(slow.seqs.at(-1), steady.seqs.at(-1), 'and it is live again')
})

t.test('a client that asks and asks and never reads its answers is not read from either', async (t) => {
  const { app, address } = await startGateway(t)
  const steady = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await steady.startTurn('flood: 5000')
  await steady.waitForTurnEnd(turnId)

  const greedy = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const raw = (greedy.socket as unknown as { _socket: Socket })._socket
  raw.pause()
  const answerBytes = JSON.stringify(await steady.call('thread/read', { threadId, includeTurns: true })).length
  const asked = 2_000
  t.ok(asked * answerBytes > 50 * 1024 * 1024, `all answers would be ${asked} times ${answerBytes} bytes`)
  for (let index = 0; index < asked; index++) {
    greedy.send({ type: 'thread/read', requestId: `r${index}`, payload: { threadId, includeTurns: true } })
  }
  const largest = () => Math.max(...[...app.websocketServer.clients].map(({ bufferedAmount }) => bufferedAmount))
  await eventually('the kernel takes no more', 20_000, () => largest() > 1024 * 1024)
  let waiting = 0
  for (let round = 0; round < 50; round++) {
    // Each of these is answered later than whatever was read from the greedy one before it.
    await steady.call('model/list', {})
    waiting = Math.max(waiting, largest())
  }
  t.ok([...app.websocketServer.clients].some(({ isPaused }) => isPaused))
  const bound = 1024 * 1024 + 64 * answerBytes
  t.ok(waiting <= bound, `${waiting} bytes wait, of at most ${bound}`)

  raw.resume()
  await greedy.waitForMessage(({ requestId }) => requestId === `r${asked - 1}`, 'the last answer')
  const answers = greedy.received.filter(({ requestId }) => requestId)
  t.equal(answers.length, asked, 'each question has one answer')
  t.ok(answers.every(({ type }) => type === 'response'))
})

/** The numbers that were received or told as a gap, in order of arrival. */
function covered(received: Received[]): number[] {
  return received.flatMap(({ type, seq, payload }) => {
    if (type === 'session/gap') return numbers(payload.from, payload.to)
    return seq ?? []
  })
}

function numbers(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index)
}

/** What came from `since` + 1 on, after the live events that a restart of the delivery repeats. */
function afterRestart(received: Received[], since: number): number[] {
  const seqs = received.flatMap(({ seq }) => seq ?? [])
  const restart = seqs.lastIndexOf(since + 1)
  return restart === -1 ? [] : seqs.slice(restart)
}
