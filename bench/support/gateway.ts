import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { forkModule, freePort, listening } from './processes.ts'

export interface BenchGateway {
  child: ChildProcess
  pid: number
  port: number
  dataDir: string
}

/** Longer than any benchmark: no ping and no idle stop falls into a measurement. */
const NEVER_MS = '3600000'
/** A model that codex's bundled catalogue knows. */
export const MODEL = 'gpt-5.5'

let gateways = 0

/**
 * server.ts as a process of its own, in development mode, on a data directory of its own under `root`. With CPU_PROF in
 * the benchmark's environment it writes a CPU profile into that directory when it ends. `execArgv` are further
 * arguments for node.
 */
export async function startGateway(
  root: string,
  variables: Record<string, string>,
  execArgv: readonly string[] = []
): Promise<BenchGateway> {
  const port = await freePort()
  const dataDir = variables.DATA_DIR ?? join(root, `gateway-${++gateways}`)
  const profile = process.env.CPU_PROF === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${process.env.CPU_PROF}`]
  const child = forkModule(
    '../../server.ts',
    [],
    {
      LOG_LEVEL: 'error',
      ISOLATION: 'none',
      MODEL,
      MODEL_BASE_URL: 'http://127.0.0.1:1/v1',
      HEARTBEAT_MS: NEVER_MS,
      IDLE_TIMEOUT_MS: NEVER_MS,
      ...variables,
      DATA_DIR: dataDir,
      PORT: String(port)
    },
    [...profile, ...execArgv]
  )
  await listening(port)
  return { child, pid: child.pid as number, port, dataDir }
}
