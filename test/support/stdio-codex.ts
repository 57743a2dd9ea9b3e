import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { testedCodex } from './tested-codex.ts'

export interface StdioReply {
  /** {} when codex answered with an error. */
  result: Record<string, unknown>
  error?: { code: number; message: string }
}

/** A real app-server on plain stdio, without anything of ours between: to see what codex itself makes of params. */
export interface StdioCodex {
  request(method: string, params: unknown): Promise<StdioReply>
  /** Resolves with the params of the next such notification. Subscribe before you cause it. */
  notified(method: string): Promise<Record<string, unknown>>
  stop(): Promise<void>
}

const CONFIG = `model = "gpt-5.5"
model_provider = "closed"
approval_policy = "on-request"
sandbox_mode = "workspace-write"
check_for_update_on_startup = false
[model_providers.closed]
name = "closed"
base_url = "http://127.0.0.1:1/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
supports_websockets = false
[analytics]
enabled = false
[feedback]
enabled = false
[features]
plugins = false
apps = false
remote_plugin = false
shell_snapshot = false
`

/** A codex home and a workspace in `root`; no model answers, so a turn waits until it is interrupted. */
export function prepareHome(root: string): { home: string; workspace: string } {
  const home = join(root, 'home')
  const workspace = join(root, 'workspace')
  mkdirSync(home)
  mkdirSync(workspace)
  writeFileSync(join(home, 'config.toml'), CONFIG)
  return { home, workspace }
}

export async function startCodex(t: Test, home: string, workspace: string): Promise<StdioCodex> {
  const child = spawn(testedCodex(), ['app-server'], {
    cwd: workspace,
    env: { PATH: process.env.PATH, HOME: home, CODEX_HOME: home },
    stdio: ['pipe', 'pipe', 'ignore']
  })
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const replies = new Map<number, (reply: StdioReply) => void>()
  const listeners = new Map<string, (params: Record<string, unknown>) => void>()
  createInterface({ input: child.stdout }).on('line', (line) => {
    const message = JSON.parse(line)
    if (message.method === undefined) replies.get(message.id)?.({ result: {}, ...message })
    else listeners.get(message.method)?.(message.params)
  })
  let lastId = 0
  const codex: StdioCodex = {
    request: (method, params) =>
      new Promise((resolve) => {
        replies.set(++lastId, resolve)
        child.stdin.write(`${JSON.stringify({ id: lastId, method, params })}\n`)
      }),
    notified: (method) => new Promise((resolve) => listeners.set(method, resolve)),
    stop: () => {
      child.stdin.end()
      return exited
    }
  }
  t.teardown(() => codex.stop())
  const capabilities = { experimentalApi: true, requestAttestation: false }
  await codex.request('initialize', { clientInfo: { name: 'test', version: '0' }, capabilities })
  child.stdin.write('{"method":"initialized"}\n')
  return codex
}
