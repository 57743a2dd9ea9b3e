import { Redis } from 'ioredis'
import { freePort, listening, startProgram } from './processes.ts'

export interface BenchRedis {
  pid: number
  url: string
  connect(): Redis
}

/**
 * A redis-server of its own with its log synced every second, data in `directory`. Undefined when none is installed.
 * It dies with the benchmark.
 */
export async function startRedis(directory: string): Promise<BenchRedis | undefined> {
  const port = await freePort()
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', '--appendonly', 'yes']
  const server = startProgram('redis-server', args, { cwd: directory, env: { PATH: process.env.PATH ?? '' } })
  const isMissing = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(true))
    server.once('spawn', () => resolve(false))
  })
  if (isMissing) return undefined
  await listening(port)
  const url = `redis://127.0.0.1:${port}`
  return { pid: server.pid as number, url, connect: () => new Redis(url) }
}
