import fastifyRedis from '@fastify/redis'
import type { FastifyBaseLogger } from 'fastify'
import fp from 'fastify-plugin'
import { Redis, ReplyError } from 'ioredis'
import { StoreUnavailable } from '../../errors.ts'

const QUIT_TIMEOUT_MS = 2_000
/** How long a socket whose peer does not answer lingers after disconnect(). */
const LINGER_TIMEOUT_MS = 200
const COMMAND_TIMEOUT_MS = 5_000
const MAX_RETRY_DELAY_MS = 2_000

export interface RedisOptions {
  /** `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS. */
  url: string
  /** How long the boot waits for Redis to answer, retries included; less than Fastify's pluginTimeout (10 s). */
  connectTimeoutMs: number
}

/**
 * `fastify.redis`: one connected ioredis client. A command fails after two retries or 5 s; a blocking reader needs
 * `redis.duplicate({ commandTimeout: undefined, maxRetriesPerRequest: null })` and closes it itself.
 * Boot rejects with StoreUnavailable, which names host and port and never the credentials.
 */
export default fp<RedisOptions>(
  async function redisPlugin(fastify, { url, connectTimeoutMs }) {
    const address = addressOf(url)
    const client = new Redis(url, {
      lazyConnect: true,
      connectTimeout: connectTimeoutMs,
      commandTimeout: COMMAND_TIMEOUT_MS,
      disconnectTimeout: LINGER_TIMEOUT_MS,
      maxRetriesPerRequest: 2,
      retryStrategy: (attempt) => Math.min(attempt * 100, MAX_RETRY_DELAY_MS)
    })

    // @fastify/redis never calls ready while Redis is down, and the boot would die by its own timeout, unnamed.
    await connectWithin(client, address, connectTimeoutMs)
    logOutages(client, address, fastify.log)
    await fastify.register(fastifyRedis, { client })
    fastify.addHook('onClose', () => quitWithin(client, QUIT_TIMEOUT_MS))
  },
  { name: 'redis' }
)

/** `host:port` of a Redis URL. The URL parser's own error quotes its whole input, password and all: it is dropped. */
function addressOf(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !['redis:', 'rediss:'].includes(parsed.protocol) || parsed.hostname === '') {
    throw new StoreUnavailable('REDIS_URL is not of the form redis://[user:password@]host[:port][/db]')
  }
  return `${parsed.hostname}:${parsed.port || '6379'}`
}

async function connectWithin(client: Redis, address: string, timeoutMs: number): Promise<void> {
  let reason = 'no answer'
  let timer: NodeJS.Timeout | undefined
  const failure = await new Promise<string | undefined>((resolve) => {
    timer = setTimeout(() => resolve(`${reason} (gave up after ${timeoutMs} ms)`), timeoutMs)
    client.on('error', (error: Error) => {
      reason = error.message
      // Redis answered and refused (a wrong password): no retry changes that.
      if (error instanceof ReplyError) resolve(reason)
    })
    client.once('ready', () => resolve(undefined))
    // The first failed attempt rejects here while ioredis goes on trying; `ready` and the timer decide.
    client.connect().catch(() => {})
  })
  clearTimeout(timer)
  if (failure === undefined) return
  client.disconnect()
  throw new StoreUnavailable(`Redis at ${address}: ${failure}`)
}

function logOutages(client: Redis, address: string, log: FastifyBaseLogger): void {
  let isDown = false
  client.on('error', (error: Error) => {
    // Only the text: a reply error carries the command's arguments, the password of HELLO among them.
    if (!isDown) log.warn({ address, reason: error.message }, 'redis is not reachable')
    isDown = true
  })
  client.on('ready', () => {
    if (isDown) log.info({ address }, 'redis is back')
    isDown = false
  })
}

async function quitWithin(client: Redis, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const bound = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs)
  })
  await Promise.race([client.quit().catch(() => {}), bound])
  clearTimeout(timer)
  client.disconnect()
}
