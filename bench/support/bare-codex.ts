import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { locateCodexBinary } from '../../src/codex/binary.ts'
import { writeCodexConfig } from '../../src/codex/config-file.ts'
import { codexEnvironment } from '../../src/codex/environment.ts'
import { pipedOutput } from '../../src/codex/output-socket.ts'
import { CodexProcess, type ProcessHandlers } from '../../src/codex/process.ts'
import { prepareShims } from '../../src/codex/shims.ts'
import type { UserDirectories } from '../../src/isolation/user-directories.ts'
import type { JsonObject } from '../../src/json.ts'
import { MODEL } from './gateway.ts'

const REQUEST_TIMEOUT_MS = 30_000
const PATH = process.env.PATH ?? ''

const newMark = () => `bench-${randomBytes(8).toString('hex')}`

/** `tuned`: as the gateway gives its processes; `default`: codex as it comes, but for the model's address. */
export type Profile = 'tuned' | 'default'

/** A home with one of the profiles, and nobody between codex and whoever starts it. */
export class BareCodexHome {
  readonly binary = locateCodexBinary()
  readonly directories: UserDirectories
  /** Undefined: the default profile. */
  readonly #shimDirectory: string | undefined

  private constructor(directories: UserDirectories, shimDirectory?: string) {
    this.directories = directories
    this.#shimDirectory = shimDirectory
  }

  /** Makes the home under `base`. */
  static async create(base: string, baseUrl: string, profile: Profile = 'tuned'): Promise<BareCodexHome> {
    const directories = {
      codexHome: join(base, 'codex'),
      home: join(base, 'home'),
      workspace: join(base, 'workspace'),
      temporary: join(base, 'tmp')
    }
    for (const directory of Object.values(directories)) mkdirSync(directory, { recursive: true, mode: 0o700 })
    if (profile === 'default') {
      const provider = `[model_providers.bench]\nname = "bench"\nbase_url = "${baseUrl}"\nwire_api = "responses"\n`
      const config = `model = "${MODEL}"\nmodel_provider = "bench"\n${provider}`
      writeFileSync(join(directories.codexHome, 'config.toml'), config)
      return new BareCodexHome(directories)
    }
    await writeCodexConfig(directories.codexHome, {
      provider: { baseUrl, requiresLogin: false },
      model: MODEL,
      workspace: directories.workspace,
      mark: newMark(),
      commandPath: PATH
    })
    return new BareCodexHome(directories, await prepareShims(base, locateCodexBinary()))
  }

  /** Spawns codex on stdio; resolves when it has answered initialize. */
  async start(): Promise<BareCodex> {
    // Of this process alone: what ends after the one before it looks for that one's mark.
    const mark = newMark()
    const { directories } = this
    const env = this.#environment(mark)
    const child = spawn(this.binary, ['app-server'], { cwd: directories.workspace, env })
    const codex = new BareCodex(child, mark, directories.workspace)
    await codex.process.initialize('0', REQUEST_TIMEOUT_MS)
    return codex
  }

  #environment(mark: string): Record<string, string> {
    const { directories } = this
    if (this.#shimDirectory === undefined) return { PATH, HOME: directories.home, CODEX_HOME: directories.codexHome }
    return codexEnvironment({ directories, mark, shimDirectory: this.#shimDirectory, gatewayEnv: { PATH } })
  }
}

/** One codex on stdio. */
export class BareCodex {
  readonly process: CodexProcess
  readonly #workspace: string
  #waiting: { method: string; resolve(): void }[] = []

  constructor(child: ChildProcessWithoutNullStreams, mark: string, workspace: string) {
    this.#workspace = workspace
    const handlers: ProcessHandlers = {
      onNotification: (method) => this.#onNotification(method),
      onRequest() {},
      onBatchEnd() {},
      onGarbage() {},
      onExit() {}
    }
    this.process = new CodexProcess(child, pipedOutput(child.stdout), mark, handlers)
  }

  request(method: string, params: JsonObject): Promise<JsonObject> {
    return this.process.request(method, params, REQUEST_TIMEOUT_MS) as Promise<JsonObject>
  }

  /** The next notification with this method. */
  next(method: string): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ method, resolve }))
  }

  async startThread(): Promise<string> {
    const { thread } = await this.request('thread/start', { cwd: this.#workspace })
    return String((thread as JsonObject).id)
  }

  async runTurn(threadId: string, text: string): Promise<void> {
    const completed = this.next('turn/completed')
    await this.request('turn/start', { threadId, input: [{ type: 'text', text, text_elements: [] }] })
    await completed
  }

  /** SIGKILL, in whatever it does; resolves when it is gone. */
  async kill(): Promise<void> {
    process.kill(this.process.pid as number, 'SIGKILL')
    while (this.process.state !== 'exited') await delay(1)
  }

  #onNotification(method: string): void {
    const met = this.#waiting.filter((waiter) => waiter.method === method)
    this.#waiting = this.#waiting.filter((waiter) => waiter.method !== method)
    for (const { resolve } of met) resolve()
  }
}
