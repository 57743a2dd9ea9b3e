import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, untilRedisAccepts } from '../stores/redis-server.ts'
import type { Teardown } from './gateway.ts'

export interface DurableRedis {
  url: string
  /** SIGKILL. */
  kill(): Promise<void>
  /** Starts it again on what it had, or, `isEmpty`, on nothing; resolves when it answers. */
  restart(options?: { isEmpty: boolean }): Promise<void>
}

/** A real redis-server that keeps its data (`appendonly yes`) and can be killed and started again on the same port. */
export async function startDurableRedis(t: Teardown): Promise<DurableRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'cc-redis-'))
  const port = await freePort()
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'yes']
  let child: ChildProcess
  const start = async () => {
    child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    await untilRedisAccepts(child)
  }
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await start()
  t.teardown(async () => {
    await kill()
    await rm(dir, { recursive: true, force: true })
  })
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    async restart({ isEmpty } = { isEmpty: false }) {
      if (isEmpty) await rm(join(dir, 'appendonlydir'), { recursive: true, force: true })
      await start()
    }
  }
}
