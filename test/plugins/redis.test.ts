import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import redisPlugin from '../../plugins/external/redis.ts'
import { freePort, redisMissing, startRedis } from '../stores/redis-server.ts'

function build(options: { url: string; connectTimeoutMs: number }) {
  const logged: string[] = []
  const logger = { level: 'trace', stream: { write: (line: string) => void logged.push(line) } }
  const app = Fastify({ logger })
  app.register(redisPlugin, options)
  return { app, logged }
}

/** A loopback server that accepts and never answers, as a Redis that hangs. */
async function startMute(t: Test): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => sockets.add(socket.on('error', () => {}))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function bootError(url: string, connectTimeoutMs = 300) {
  const { app, logged } = build({ url, connectTimeoutMs })
  const error = await app.ready().then(
    () => undefined,
    (error: Error) => error
  )
  await app.close()
  return { error, everything: `${JSON.stringify(error)} ${error?.stack} ${logged.join('')}` }
}

t.test('boot says which address failed and why, and keeps the credentials to itself', async (t) => {
  const port = await freePort()
  const mute = await startMute(t)
  const cases: [string, RegExp][] = [
    [`redis://ana:s3cret@127.0.0.1:${port}/2`, new RegExp(`Redis at 127\\.0\\.0\\.1:${port}: .*ECONNREFUSED`)],
    [`redis://ana:s3cret@127.0.0.1:${mute}`, new RegExp(`Redis at 127\\.0\\.0\\.1:${mute}: no answer`)],
    ['redis://ana:s3cret@[bad', /REDIS_URL is not of the form/],
    ['s3cret', /REDIS_URL is not of the form/],
    [`http://ana:s3cret@127.0.0.1:${port}`, /REDIS_URL is not of the form/]
  ]
  for (const [url, message] of cases) {
    const { error, everything } = await bootError(url)
    t.match(error, { code: 'CC_STORE_UNAVAILABLE', message })
    t.notMatch(everything, /s3cret|ana:/)
  }
})

t.test('with a server', { skip: redisMissing }, async (t) => {
  await t.test('decorates with a connected client and closes it with the app', async (t) => {
    const server = await startRedis({ password: 's3cret' })
    t.teardown(() => server.stop())
    const { app } = build({ url: server.url, connectTimeoutMs: 5_000 })
    await app.ready()
    t.equal(await app.redis.ping(), 'PONG')
    const ended = once(app.redis, 'end')
    await app.close()
    await ended
    t.equal(app.redis.status, 'end')
  })

  await t.test('a wrong password fails at once, not at the deadline, and is shown nowhere', async (t) => {
    const server = await startRedis({ password: 's3cret' })
    t.teardown(() => server.stop())
    const { error, everything } = await bootError(`redis://:wr0ng@127.0.0.1:${server.port}`, 9_000)
    t.match(error, { code: 'CC_STORE_UNAVAILABLE', message: /WRONGPASS/ })
    t.notMatch(error?.message, /gave up/)
    t.notMatch(everything, /wr0ng/)
  })

  await t.test('waits for a server that is still starting', async (t) => {
    const port = await freePort()
    const { app } = build({ url: `redis://127.0.0.1:${port}`, connectTimeoutMs: 9_000 })
    const ready = app.ready()
    const server = await startRedis({ port })
    t.teardown(() => server.stop())
    await ready
    t.equal(await app.redis.ping(), 'PONG')
    await app.close()
  })

  await t.test('logs an outage and its end once each, without the password, and recovers by itself', async (t) => {
    const server = await startRedis({ password: 's3cret' })
    t.teardown(() => server.stop())
    const { app, logged } = build({ url: server.url, connectTimeoutMs: 5_000 })
    await app.ready()
    const admin = new Redis(server.url)
    t.teardown(() => admin.disconnect())

    await admin.config('SET', 'requirepass', 'another')
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal')
    await t.rejects(app.redis.ping(), 'a command in the outage fails after its retries')
    await admin.config('SET', 'requirepass', 's3cret')
    await once(app.redis, 'ready')
    t.equal(await app.redis.ping(), 'PONG')
    await app.close()

    const told = (message: string) => logged.filter((line) => line.includes(message)).length
    t.equal(told('redis is not reachable'), 1)
    t.equal(told('redis is back'), 1)
    t.notMatch(logged.join(''), /s3cret/)
  })

  await t.test('closes within its bound while the server hangs', async (t) => {
    const server = await startRedis()
    const { app } = build({ url: server.url, connectTimeoutMs: 5_000 })
    await app.ready()
    server.pause()
    t.teardown(() => server.stop())
    const ended = once(app.redis, 'end')
    const startedAt = Date.now()
    await app.close()
    const tookMs = Date.now() - startedAt
    t.ok(tookMs >= 1_900 && tookMs < 3_500, `closed after ${tookMs} ms`)
    await ended
  })
})
