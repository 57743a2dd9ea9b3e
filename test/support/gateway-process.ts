import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { scratchDirectory, TEST_ISOLATION, type Teardown } from './gateway.ts'
import { eventually } from './processes.ts'
import type { Received } from './ws-client.ts'

/** A machine that runs all tests at once needs seconds to load the sources. */
const BOOT_TIMEOUT_MS = 60_000

export interface GatewayProcess {
  child: ChildProcess
  /** `127.0.0.1:<port>`. */
  address: string
  dataDir: string
  /** Everything on stdout and stderr so far. */
  output(): string
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

type Finished = Pick<GatewayProcess, 'output' | 'exited' | 'child' | 'dataDir'>

/** Whose process it is; needs root. */
export interface Account {
  uid: number
  gid: number
}

/** server.ts as a process of its own; its environment is `variables`, ISOLATION and PATH, and nothing else. */
export async function spawnServer(
  t: Teardown,
  variables: Record<string, string> = {},
  account?: Account
): Promise<Finished> {
  const dataDir = variables.DATA_DIR ?? (await scratchDirectory(t))
  const child = spawn(process.execPath, ['--import', 'tsx', resolve('server.ts')], {
    env: { PATH: process.env.PATH, PORT: '0', ISOLATION: TEST_ISOLATION, DATA_DIR: dataDir, ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...account
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  const exited = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return { child, dataDir, output: () => text, exited }
}

/** The same, once it listens. Rejects with its output when it ends before. */
export async function startGatewayProcess(
  t: Teardown,
  variables: Record<string, string> = {},
  account?: Account
): Promise<GatewayProcess> {
  const server = await spawnServer(t, variables, account)
  const listening = /Server listening at http:\/\/([\d.]+:\d+)/
  await eventually('the server listens', BOOT_TIMEOUT_MS, () => {
    if (server.child.exitCode !== null) throw new Error(`the server ended:\n${server.output()}`)
    return listening.test(server.output())
  })
  return { ...server, address: listening.exec(server.output())?.[1] ?? '' }
}

/** Runs server.ts until it ends by itself, as it does when it cannot start. */
export async function runServer(
  t: Teardown,
  variables: Record<string, string>
): Promise<{ code: number | null; output: string }> {
  const { exited, output } = await spawnServer(t, variables)
  const { code } = await exited
  return { code, output: output() }
}

/** What a REST route answers the user alice. Rejects for any status but 2xx. */
export async function callApi(
  { address }: Pick<GatewayProcess, 'address'>,
  path: string,
  method = 'GET'
): Promise<Received['payload']> {
  const response = await fetch(`http://${address}${path}`, { method, headers: { 'x-user-id': 'alice' } })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return response.json()
}
