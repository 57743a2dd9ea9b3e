import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipedOutput } from '../../src/codex/output-socket.ts'
import { CodexProcess } from '../../src/codex/process.ts'
import type { JsonObject, JsonValue } from '../../src/json.ts'
import { scratchDirectory, type Teardown } from './gateway.ts'
import { testedCodex } from './tested-codex.ts'

export interface BareCodex {
  codexHome: string
  workspace: string
  /** The commands that codex asked about, in order. */
  asked: string[]
  request(method: string, params: JsonObject): Promise<JsonObject>
  /** Runs a turn with this text and resolves when it has ended. */
  turn(threadId: string, text: string, params?: JsonObject): Promise<void>
}

/** A real app-server without the gateway before it, to show that an attack is one: `decide` answers its approvals. */
export async function startBareCodex(
  t: Teardown,
  modelUrl: string,
  decide: (params: JsonObject) => JsonValue = () => ({ decision: 'accept' })
): Promise<BareCodex> {
  const root = await scratchDirectory(t)
  const [codexHome, workspace] = [join(root, 'home'), join(root, 'workspace')]
  await mkdir(codexHome)
  await mkdir(workspace)
  await writeFile(join(codexHome, 'config.toml'), renderConfig(modelUrl))
  const asked: string[] = []
  const ends = new Map<string, () => void>()
  const child = spawn(testedCodex(), ['app-server'], {
    cwd: workspace,
    env: { PATH: process.env.PATH, HOME: codexHome, CODEX_HOME: codexHome }
  })
  const codex = new CodexProcess(child, pipedOutput(child.stdout), `bare-${root}`, {
    onNotification(method, bytes, start, end) {
      if (method === 'turn/completed') ends.get(JSON.parse(bytes.toString('utf8', start, end)).params.threadId)?.()
    },
    onRequest(call) {
      const params = call.params as JsonObject
      asked.push(String(params.command))
      call.respond(decide(params))
    },
    onBatchEnd() {},
    onGarbage() {},
    onExit() {}
  })
  t.teardown(() => codex.stop())
  await codex.initialize('0')
  const request = async (method: string, params: JsonObject) =>
    (await codex.request(method, params, 20_000)) as JsonObject
  return {
    codexHome,
    workspace,
    asked,
    request,
    async turn(threadId, text, params = {}) {
      const ended = new Promise<void>((resolve) => ends.set(threadId, resolve))
      await request('turn/start', { threadId, input: [{ type: 'text', text, text_elements: [] }], ...params })
      await ended
    }
  }
}

function renderConfig(modelUrl: string): string {
  return `model = "gpt-5.5"
model_provider = "test"
approval_policy = "on-request"
sandbox_mode = "workspace-write"
check_for_update_on_startup = false
[model_providers.test]
name = "test"
base_url = "${modelUrl}"
wire_api = "responses"
supports_websockets = false
[sandbox_workspace_write]
exclude_slash_tmp = true
exclude_tmpdir_env_var = true
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
}
