import { spawn } from 'node:child_process'
import { on, once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { WebSocket } from 'ws'
import { writeCodexConfig } from '../../src/codex/config-file.ts'
import { codexEnvironment, DEFAULT_PATH } from '../../src/codex/environment.ts'
import { writePromptRules } from '../../src/codex/prompt-rules.ts'
import { prepareShims } from '../../src/codex/shims.ts'
import { prepareUserDirectories, type UserDirectories } from '../../src/isolation/user-directories.ts'
import { scratchDirectory, type Teardown } from './gateway.ts'
import { eventually } from './processes.ts'
import { testedCodex } from './tested-codex.ts'

const BOOT_TIMEOUT_MS = 30_000

export interface CodexListener {
  /** `127.0.0.1:<port>`. */
  address: string
  directories: UserDirectories
}

/**
 * `codex app-server --listen ws://…` with the home, rules and environment that the gateway gives its processes, and
 * nobody between it and its clients: what "as codex does" means. `binary` may be a codex with settings of a test's own.
 */
export async function startCodexListener(
  t: Teardown,
  modelBaseUrl: string,
  model: string,
  binary = testedCodex()
): Promise<CodexListener> {
  const root = await scratchDirectory(t)
  const directories = await prepareUserDirectories({ dataDir: root, workspaceRoot: join(root, 'workspaces') }, 'direct')
  const commandPath = process.env.PATH ?? DEFAULT_PATH
  await writeCodexConfig(directories.codexHome, {
    provider: { baseUrl: modelBaseUrl, requiresLogin: true },
    model,
    workspace: directories.workspace,
    mark: 'direct',
    commandPath
  })
  await writePromptRules(directories.codexHome)
  const shimDirectory = await prepareShims(root, testedCodex())
  const env = codexEnvironment({ directories, mark: 'direct', shimDirectory, gatewayEnv: { PATH: commandPath } })
  const address = `127.0.0.1:${await freePort()}`
  const codex = spawn(binary, ['app-server', '--listen', `ws://${address}`], {
    cwd: directories.workspace,
    env,
    stdio: 'ignore'
  })
  const exited = once(codex, 'exit')
  t.teardown(async () => {
    codex.kill('SIGKILL')
    await exited
  })
  await eventually('codex listens', BOOT_TIMEOUT_MS, async () => {
    if (codex.exitCode !== null) throw new Error(`codex ended with code ${codex.exitCode}`)
    return fetch(`http://${address}/readyz`).then(
      ({ ok }) => ok,
      () => false
    )
  })
  await logIn(address)
  return { address, directories }
}

/** As the gateway does: what codex says of the account is the same then. */
async function logIn(address: string): Promise<void> {
  const socket = new WebSocket(`ws://${address}`)
  await once(socket, 'open')
  const call = async (id: number, method: string, params: object) => {
    socket.send(JSON.stringify({ id, method, params }))
    for await (const [data] of on(socket, 'message')) if (JSON.parse(String(data)).id === id) return
  }
  await call(1, 'initialize', { clientInfo: { name: 'login', title: 'Login', version: '1' } })
  socket.send('{"method":"initialized"}')
  // Said behind the reply, to whoever is connected by then: not to the client of the test.
  const told = new Set(['account/login/completed', 'account/updated'])
  const allTold = new Promise<void>((resolve) => {
    socket.on('message', (data) => {
      if (told.delete(JSON.parse(String(data)).method) && told.size === 0) resolve()
    })
  })
  await call(2, 'account/login/start', { type: 'apiKey', apiKey: 'ccp_for_the_listener' })
  await allTold
  socket.close()
  await once(socket, 'close')
}

/** codex takes no port 0: one that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
