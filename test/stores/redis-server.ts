import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** False, or why tests that need Redis are skipped: passed as tap's `skip`. */
export const redisMissing: string | false =
  spawnSync('redis-server', ['--version']).status === 0
    ? false
    : 'redis-server is not installed: apt-get install redis-server'

export interface RedisServer {
  port: number
  url: string
  /** Stops the process without a last write, as a crash would. */
  stop(): Promise<void>
  /** Freezes the process: connections stay open and nothing answers. */
  pause(): void
}

/** A real redis-server on a free loopback port, its data in a temporary directory that `stop` removes. */
export async function startRedis(options: { password?: string; port?: number } = {}): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), 'cc-redis-'))
  const port = options.port ?? (await freePort())
  const auth = options.password === undefined ? [] : ['--requirepass', options.password]
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', ...auth]
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })

  await untilRedisAccepts(child)
  const credentials = options.password === undefined ? '' : `:${options.password}@`
  return {
    port,
    url: `redis://${credentials}127.0.0.1:${port}`,
    pause: () => void child.kill('SIGSTOP'),
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
      await rm(dir, { recursive: true, force: true })
    }
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** Resolves when a redis-server that was just started takes connections. */
export async function untilRedisAccepts(child: ChildProcess): Promise<void> {
  if (child.stdout === null) throw new Error('no stdout')
  const lines: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.includes('Ready to accept connections')) {
      child.stdout.resume()
      return
    }
    lines.push(line)
  }
  throw new Error(`redis-server did not start:\n${lines.join('\n')}`)
}
