import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { PoolFull, ShuttingDown, withDetails } from '../../errors.ts'
import type { Launcher } from '../isolation/launcher.ts'
import { killMarked } from '../isolation/process-tree.ts'
import { type DirectoryRoots, prepareUserDirectories, type UserDirectories, userKey } from '../session/directories.ts'
import { type ModelProvider, writeCodexConfig } from './config-file.ts'
import { codexEnvironment, DEFAULT_PATH } from './environment.ts'
import { HomeTemplate } from './home-template.ts'
import { CodexProcess, type ProcessHandlers } from './process.ts'
import { prepareShims } from './shims.ts'

const POOL_RETRY_AFTER_S = 5
const LOGIN_TIMEOUT_MS = 10_000

export interface PoolOptions extends DirectoryRoots {
  binary: string
  codexVersion: string
  clientVersion: string
  maxProcesses: number
  launcher: Launcher
  provider: ModelProvider
  model?: string
  /** Reaches codex by account/login/start only: never a file, never a variable. */
  apiKey?: string
  gatewayEnv: Readonly<Record<string, string | undefined>>
}

/** Starts codex processes within a limit, and ends them all. One process per user is the sessions' business. */
export class ProcessPool {
  readonly #options: PoolOptions
  readonly #template: HomeTemplate
  readonly #instance: string
  readonly #processes = new Set<CodexProcess>()
  #reserved = 0
  #shimDirectory = ''
  #closed = false

  constructor(options: PoolOptions) {
    this.#options = options
    this.#template = new HomeTemplate(join(options.dataDir, `codex-home-${options.codexVersion}`))
    this.#instance = userKey(options.dataDir)
  }

  /** Processes that are starting, running or stopping. */
  get size(): number {
    return this.#reserved
  }

  get maxProcesses(): number {
    return this.#options.maxProcesses
  }

  get launcher(): Launcher {
    return this.#options.launcher
  }

  /** Ends what an earlier gateway on the same data directory left running. Returns how many processes that were. */
  async prepare(): Promise<number> {
    this.#shimDirectory = await prepareShims(this.#options.dataDir)
    return killMarked(this.#instance)
  }

  /** Makes the template home that new users' homes are copied from; without it a first start is only slower. */
  warmUp(): Promise<void> {
    return this.#template.prepare(async (codexHome) => {
      const silent: ProcessHandlers = {
        onNotification() {},
        onRequest() {},
        onBatchEnd() {},
        onGarbage() {},
        onExit() {}
      }
      const directories = { codexHome, home: codexHome, workspace: codexHome }
      const mark = this.#newMark()
      await this.#writeConfig(directories, mark)
      const process = this.#spawn(directories, mark, silent)
      await process.initialize(this.#options.clientVersion).finally(() => process.stop())
    })
  }

  /** Makes the user's directories where they are missing. */
  prepareDirectories(userId: string): Promise<UserDirectories> {
    return prepareUserDirectories(this.#options, userId)
  }

  /**
   * Starts a user's process: directories, config, handshake, login. Throws PoolFull (all slots in use),
   * ProcessStartFailed or ShuttingDown. The slot is free again when the process is gone.
   */
  async start(userId: string, handlers: ProcessHandlers): Promise<CodexProcess> {
    if (this.#closed) throw new ShuttingDown()
    const { maxProcesses } = this.#options
    if (this.#reserved >= maxProcesses) {
      throw withDetails(new PoolFull(maxProcesses), { retryAfter: POOL_RETRY_AFTER_S })
    }
    this.#reserved++
    let release = () => {
      this.#reserved--
      release = () => {}
    }
    try {
      return await this.#start(userId, handlers, () => release())
    } catch (error) {
      release()
      throw error
    }
  }

  /** Stops every process. New starts are refused from here on. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#processes].map((process) => process.stop()))
  }

  async #start(userId: string, handlers: ProcessHandlers, release: () => void): Promise<CodexProcess> {
    const directories = await this.prepareDirectories(userId)
    await this.#template.seed(directories.codexHome)
    const mark = this.#newMark()
    await this.#writeConfig(directories, mark)
    if (this.#closed) throw new ShuttingDown()
    const process = this.#spawn(directories, mark, {
      ...handlers,
      onExit: (exit) => {
        this.#processes.delete(process)
        release()
        handlers.onExit(exit)
      }
    })
    this.#processes.add(process)
    await process.initialize(this.#options.clientVersion)
    await this.#login(process)
    return process
  }

  #spawn(directories: UserDirectories, mark: string, handlers: ProcessHandlers): CodexProcess {
    const { binary, launcher, gatewayEnv } = this.#options
    const view = launcher.view(directories)
    const env = codexEnvironment({ directories: view, mark, shimDirectory: this.#shimDirectory, gatewayEnv })
    return new CodexProcess(launcher.launch({ argv: [binary, 'app-server'], env, directories }), mark, handlers)
  }

  async #login(process: CodexProcess): Promise<void> {
    const { apiKey } = this.#options
    if (apiKey === undefined) return
    try {
      await process.request('account/login/start', { type: 'apiKey', apiKey }, LOGIN_TIMEOUT_MS)
    } catch (error) {
      await process.stop()
      throw error
    }
  }

  #writeConfig(directories: UserDirectories, mark: string): Promise<void> {
    const { provider, model, gatewayEnv, launcher } = this.#options
    return writeCodexConfig(directories.codexHome, {
      provider,
      ...(model === undefined ? {} : { model }),
      mark,
      commandPath: gatewayEnv.PATH ?? DEFAULT_PATH,
      workspace: launcher.view(directories).workspace
    })
  }

  /** `<instance>.<random>`: one instance's processes share the first part, so that leftovers can be found at boot. */
  #newMark(): string {
    return `${this.#instance}.${randomBytes(8).toString('hex')}`
  }
}
