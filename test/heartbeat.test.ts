import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay, setImmediate as nextLoop } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { Connection } from '../examples/connection.ts'
import { ConnectionWatch, type WatchedConnection } from '../plugins/clients/connection-watch.ts'
import { startCuttableProxy } from './support/cuttable-proxy.ts'
import { startGateway } from './support/gateway.ts'
import { eventually } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

/** A connection whose every property the test sets; it notes what was done to it. */
class FakeConnection implements WatchedConnection {
  readonly userId = 'alice'
  isOpen = true
  isPaused = false
  unsentBytes = 0
  sentBytes = 0
  receivedBytes = 100
  expiresAtMs: number | undefined
  pings = 0
  closed: number | undefined
  isTerminated = false

  ping(): void {
    this.pings++
  }

  close(code: number): void {
    this.isOpen = false
    this.closed = code
  }

  terminate(): void {
    this.isOpen = false
    this.isTerminated = true
  }
}

function watchOne() {
  const logged: object[] = []
  const watch = new ConnectionWatch({ stallTimeoutMs: 1_000, log: { info: (fields) => logged.push(fields) } })
  const connection = new FakeConnection()
  watch.add(connection)
  return { watch, connection, logged }
}

t.test('the watch drops who is silent from one ping to the next, and nobody else', async (t) => {
  await t.test('silent', async (t) => {
    const { watch, connection } = watchOne()
    watch.beat()
    t.equal(connection.pings, 1)
    watch.beat()
    t.ok(connection.isTerminated)
  })

  await t.test('any byte is a sign of life', async (t) => {
    const { watch, connection } = watchOne()
    for (let beats = 1; beats <= 10; beats++) {
      watch.beat()
      t.equal(connection.pings, beats)
      connection.receivedBytes++
    }
    t.notOk(connection.isTerminated)
  })

  await t.test('one that is not read from, or has something unsent, is not judged until long after', async (t) => {
    for (const obstacle of [{ isPaused: true }, { unsentBytes: 1 }]) {
      const { watch, connection } = watchOne()
      watch.beat()
      Object.assign(connection, obstacle)
      for (let beats = 0; beats < 5; beats++) watch.beat()
      Object.assign(connection, { isPaused: false, unsentBytes: 0 })
      watch.beat()
      t.notOk(connection.isTerminated, 'a ping of before the obstacle does not count')
      t.equal(connection.pings, 2)
      watch.beat()
      t.ok(connection.isTerminated)
    }
  })

  await t.test('what has just left may still lie before the client: it gets the stall timeout to answer', async (t) => {
    const { watch, connection } = watchOne()
    connection.unsentBytes = 10
    watch.look(0, 0)
    connection.unsentBytes = 0
    for (const nowMs of [100, 999]) {
      watch.look(nowMs, 0)
      for (let beats = 0; beats < 3; beats++) watch.beat()
    }
    t.notOk(connection.isTerminated)
    watch.look(1_000, 0)
    watch.beat()
    watch.beat()
    t.ok(connection.isTerminated)
  })
})

t.test('the watch closes a backlog that does not move, never one that does', async (t) => {
  await t.test('not a byte', async (t) => {
    const { watch, connection, logged } = watchOne()
    connection.unsentBytes = 500
    watch.look(5_000, 0)
    connection.unsentBytes = 900
    watch.look(5_999, 0)
    t.equal(connection.closed, undefined)
    watch.look(6_000, 0)
    t.equal(connection.closed, 4408)
    t.match(logged, [{ userId: 'alice', unsentBytes: 900, stillMs: 1_000 }])
  })

  await t.test('a byte now and then is enough, for ever', async (t) => {
    const { watch, connection } = watchOne()
    connection.unsentBytes = 500
    for (let nowMs = 0; nowMs < 100_000; nowMs += 900) {
      connection.sentBytes++
      watch.look(nowMs, 0)
    }
    t.equal(connection.closed, undefined)
  })

  await t.test('a new backlog begins its own time', async (t) => {
    const { watch, connection } = watchOne()
    connection.unsentBytes = 500
    watch.look(0, 0)
    Object.assign(connection, { unsentBytes: 0, sentBytes: 500 })
    watch.look(500, 0)
    connection.unsentBytes = 500
    watch.look(1_100, 0)
    t.equal(connection.closed, undefined)
    watch.look(2_100, 0)
    t.equal(connection.closed, 4408)
  })

  await t.test('nothing is done to one that is closing already, or is no longer watched', async (t) => {
    for (const leave of [
      ({ connection }: ReturnType<typeof watchOne>) => (connection.isOpen = false),
      ({ watch, connection }: ReturnType<typeof watchOne>) => watch.delete(connection)
    ]) {
      const one = watchOne()
      one.connection.unsentBytes = 1
      one.watch.look(0, 0)
      leave(one)
      one.watch.look(9_000, 0)
      one.connection.unsentBytes = 0
      one.watch.beat()
      one.watch.beat()
      t.match(one.connection, { pings: 0, closed: undefined, isTerminated: false })
    }
  })
})

t.test('the watch closes what has outlived its token, and looks at the token that counts now', async (t) => {
  const { watch, connection } = watchOne()
  connection.expiresAtMs = 5_000
  watch.look(0, 4_999)
  connection.expiresAtMs = 7_000
  watch.look(0, 6_999)
  t.equal(connection.closed, undefined)
  watch.look(0, 7_000)
  t.equal(connection.closed, 4401)
})

t.test('a socket that answers no ping is dropped within two intervals; one that does lives', async (t) => {
  const intervalMs = 400
  const { app, address } = await startGateway(t, { HEARTBEAT_MS: String(intervalMs) })
  const proxy = await startCuttableProxy(t, address)
  const url = `ws://${address}/ws?userId=alice`
  const alive = await TestClient.connect(t, url)
  const dead = await deadSocket(t, address)
  const halfOpen = await TestClient.connect(t, url.replace(address, proxy.address))
  const cut = proxy.last()
  const startMs = Date.now()
  cut.silence('discard')
  await Promise.all([once(dead, 'close'), cut.droppedByGateway])
  const ms = Date.now() - startMs
  t.ok(ms <= 2 * intervalMs + 300, `dropped after ${ms} ms`)
  t.equal(halfOpen.socket.readyState, halfOpen.socket.OPEN, 'which the other side does not know')
  await delay(3 * intervalMs)
  t.equal(alive.socket.readyState, alive.socket.OPEN)
  t.equal(app.websocketServer.clients.size, 1)
  t.equal(app.sessions.find('alice')?.clientCount, 1)
})

t.test('a client that reads nothing is closed with a reason; one that reads slowly is not', async (t) => {
  const stallTimeoutMs = 1_500
  const lines: string[] = []
  const { app, address } = await startGateway(
    t,
    { HEARTBEAT_MS: '400', CLIENT_STALL_TIMEOUT_MS: String(stallTimeoutMs) },
    pino({ level: 'info' }, { write: (line: string) => lines.push(line) })
  )
  const url = `ws://${address}/ws?userId=alice`
  const steady = await TestClient.connect(t, url)
  const { threadId, turnId } = await steady.startTurn('flood: 5000')
  await steady.waitForTurnEnd(turnId)
  const answerBytes = JSON.stringify(await steady.call('thread/read', { threadId, includeTurns: true })).length
  const closes: number[] = []
  steady.socket.on('close', (code) => closes.push(code))

  /** Answers that are more than the kernel takes, to a client that has stopped reading. */
  const askMuch = async () => {
    const client = await TestClient.connect(t, url)
    const raw = (client.socket as unknown as { _socket: Socket })._socket
    raw.pause()
    const answers = Math.ceil((40 * 1024 * 1024) / answerBytes)
    for (let index = 0; index < answers; index++) {
      client.send({ type: 'thread/read', requestId: `r${index}`, payload: { threadId, includeTurns: true } })
    }
    const isBehind = () => [...app.websocketServer.clients].some(({ bufferedAmount }) => bufferedAmount > 500_000)
    await eventually('the kernel takes no more', 20_000, isBehind)
    return { client, raw, answers, isBehind }
  }

  await t.test('nothing', async (t) => {
    const { client, raw, isBehind } = await askMuch()
    const startMs = Date.now()
    const closing = once(client.socket, 'close')
    const isClosing = () => [...app.websocketServer.clients].some(({ readyState }) => readyState === 2)
    await eventually('the gateway closes it', stallTimeoutMs + 5_000, isClosing)
    const ms = Date.now() - startMs
    t.ok(isBehind())
    t.ok(ms >= stallTimeoutMs - 300, `closed after ${ms} ms, which is more than two heartbeats`)
    const told = lines.map((line) => JSON.parse(line)).filter(({ msg }) => /reads nothing/.test(msg))
    t.match(told, [{ userId: 'alice', unsentBytes: Number, stillMs: Number }])
    raw.resume()
    const [code, reason] = await closing
    t.match([code, String(reason)], [4408, /nothing was read.*seq/], 'it hears why when it reads again at once')
    await eventually('its place is free', 5_000, () => app.sessions.find('alice')?.clientCount === 1)
  })

  await t.test('slowly', async (t) => {
    const { client, raw, answers, isBehind } = await askMuch()
    const endMs = Date.now() + 2 * stallTimeoutMs
    let reads = 0
    while (Date.now() < endMs || reads < 5) {
      await delay(100)
      // A codex that answers slower than this client reads must not let it catch up.
      if (!isBehind()) continue
      // Not less: what leaves the kernel is told to us in steps of a third of its buffer.
      await readSome(raw, 512 * 1024)
      reads++
    }
    t.equal(client.socket.readyState, client.socket.OPEN)
    raw.resume()
    await client.waitForMessage(({ requestId }) => requestId === `r${answers - 1}`, 'the last answer')
    t.equal(client.received.filter(({ type }) => type === 'response').length, answers)
  })

  t.match(await steady.request('ping'), { type: 'pong' })
  t.strictSame(closes, [], 'the others notice nothing')
})

t.test('a client that can only send `ping` learns of a dead network, and goes on where it was', async (t) => {
  const { address } = await startGateway(t)
  const proxy = await startCuttableProxy(t, address)
  const steady = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const seqs: number[] = []
  const calls: string[] = []
  const connection = new Connection({
    url: new URL(`ws://${proxy.address}/ws?userId=alice`),
    pingIntervalMs: 300,
    onMessage: (message) => void ('seq' in message && seqs.push(message.seq)),
    onReady: () => calls.push('ready'),
    onLost: () => calls.push('lost'),
    onEnd: (reason) => calls.push(`end: ${reason}`)
  })
  await eventually('it is there', 10_000, () => connection.isReady)
  const first = proxy.last()
  await delay(1_000)
  t.strictSame(calls, ['ready'], 'the answers to its pings keep it')

  first.silence('discard')
  const { turnId } = await steady.startTurn('flood: 100')
  await steady.waitForTurnEnd(turnId)
  await eventually('it is back', 10_000, () => calls.length === 3)
  t.strictSame(calls, ['ready', 'lost', 'ready'])
  const last = steady.seqs.at(-1) ?? 0
  await eventually('it has everything', 10_000, () => seqs.at(-1) === last)
  t.ok(seqs.every((seq, index) => index === 0 || seq === (seqs[index - 1] ?? 0) + 1))
  t.ok(seqs.length > 100)
  connection.close()
})

t.test('the request that a connection came with does not live as long as the connection', async (t) => {
  const { app, address } = await startGateway(t)
  const requests: WeakRef<object>[] = []
  app.server.prependListener('upgrade', (request: IncomingMessage) => requests.push(new WeakRef(request)))
  const clients = await Promise.all([1, 2, 3].map(() => TestClient.connect(t, `ws://${address}/ws?userId=alice`)))
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  t.equal(requests.length, 3)
  await eventually('no request is left', 10_000, () => {
    collect()
    return requests.every((request) => request.deref() === undefined)
  })
  for (const client of clients) t.match(await client.request('ping'), { type: 'pong' })
  await nextLoop()
  const [first] = app.websocketServer.clients
  first?.emit('error', new Error('made up'))
  await eventually('an error still ends its socket alone', 5_000, () => app.websocketServer.clients.size === 2)
})

/** Lets a paused socket read this much. */
async function readSome(raw: Socket, bytes: number): Promise<void> {
  const target = raw.bytesRead + bytes
  raw.resume()
  while (raw.bytesRead < target) await once(raw, 'data', { signal: AbortSignal.timeout(10_000) })
  raw.pause()
}

/** A WebSocket client below which there is nobody: it takes what comes and answers nothing. */
async function deadSocket(t: Test, address: string): Promise<Socket> {
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  const upgrade = ['connection: upgrade', 'upgrade: websocket', 'sec-websocket-version: 13']
  const lines = [
    'GET /ws?userId=alice HTTP/1.1',
    `host: ${address}`,
    ...upgrade,
    'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=='
  ]
  socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  await once(socket, 'data')
  return socket.resume()
}
