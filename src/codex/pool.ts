import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { ConfigInvalid, ShuttingDown } from '../../errors.ts'
import type { ModelGrant } from '../broker/process-tokens.ts'
import type { LaunchedProcess, Launcher, LaunchSpec, PrepareSpec } from '../isolation/launcher.ts'
import { makeDirectory } from '../isolation/make-directory.ts'
import { startOrphanGuard } from '../isolation/orphan-guard.ts'
import { killMarked } from '../isolation/process-tree.ts'
import {
  type DirectoryRoots,
  prepareUserDirectories,
  type UserDirectories,
  userKey
} from '../isolation/user-directories.ts'
import { type ModelProvider, writeCodexConfig } from './config-file.ts'
import { codexEnvironment, DEFAULT_PATH } from './environment.ts'
import { HomeTemplate } from './home-template.ts'
import { OutputSockets, type ProcessOutput, pipedOutput } from './output-socket.ts'
import { CodexProcess, type ProcessHandlers } from './process.ts'
import { writePromptRules } from './prompt-rules.ts'
import { prepareShims } from './shims.ts'
import { Slots } from './slots.ts'

const LOGIN_TIMEOUT_MS = 10_000

interface StartHandlers extends ProcessHandlers {
  /** The slot is free again. */
  onRelease(): void
}

export interface PoolOptions extends DirectoryRoots {
  binary: string
  codexVersion: string
  clientVersion: string
  maxProcesses: number
  launcher: Launcher
  provider: ModelProvider
  model?: string
  /**
   * A token for the model endpoint, revoked when its process is gone. It reaches codex by account/login/start only:
   * never a file, never a variable. Without it codex sends none.
   */
  grantModel?(userId: string): ModelGrant
  gatewayEnv: Readonly<Record<string, string | undefined>>
  /** How long the handshake may take; default 20 s. */
  startTimeoutMs?: number
  /** The guard that ends what a killed gateway leaves behind is gone. */
  onGuardLost?(reason: string): void
}

/** Starts codex processes within a limit, and ends them all. One process per user is the sessions' business. */
export class ProcessPool {
  readonly #options: PoolOptions
  readonly #template: HomeTemplate
  /** Common to all gateways on this data directory, so that leftovers can be found at boot. */
  readonly #instance: string
  /** Of this gateway alone: its guard must not end the processes of the gateway that comes after it. */
  readonly #boot: string
  readonly #processes = new Set<CodexProcess>()
  readonly #slots: Slots
  #shimDirectory = ''
  #outputs: OutputSockets | undefined
  #endGuard = () => {}
  #closed = false

  constructor(options: PoolOptions) {
    this.#options = options
    this.#slots = new Slots(options.maxProcesses)
    this.#template = new HomeTemplate(join(options.dataDir, `codex-home-${options.codexVersion}`))
    this.#instance = `${userKey(options.dataDir)}.`
    this.#boot = `${this.#instance}${randomBytes(4).toString('hex')}.`
  }

  /** Processes that are starting, running or stopping. */
  get size(): number {
    return this.#slots.taken
  }

  get maxProcesses(): number {
    return this.#slots.max
  }

  get launcher(): Launcher {
    return this.#options.launcher
  }

  /**
   * Ends what an earlier gateway on the same data directory left running. Returns how many processes that were. Throws
   * ConfigInvalid when there can be no workspaces.
   */
  async prepare(): Promise<number> {
    await makeDirectory(this.#options.workspaceRoot).catch((error: Error) => {
      throw new ConfigInvalid(`WORKSPACE_ROOT cannot be made: ${error.message}`)
    })
    this.#shimDirectory = await prepareShims(this.#options.dataDir, this.#options.binary)
    this.#outputs = await OutputSockets.open().catch(() => undefined)
    const leftovers = await killMarked(this.#instance)
    this.#endGuard = startOrphanGuard(this.#boot, (reason) => this.#options.onGuardLost?.(reason))
    return leftovers
  }

  /** Makes the template home that new users' homes are copied from; without it a first start is only slower. */
  warmUp(): Promise<void> {
    return this.#template.prepare(async (codexHome) => {
      const scratch = join(codexHome, 'tmp')
      await makeDirectory(scratch)
      const silent = { onNotification() {}, onRequest() {}, onBatchEnd() {}, onGarbage() {}, onExit() {} }
      const directories = { codexHome, home: scratch, workspace: scratch, temporary: scratch }
      const mark = this.#newMark()
      await this.#writeConfig(directories, mark)
      const process = await this.#spawn({ directories, fillsHome: true }, mark, silent)
      await this.#initialize(process).finally(() => process.stop())
    })
  }

  /** Makes the user's directories where they are missing. */
  prepareDirectories(userId: string): Promise<UserDirectories> {
    return prepareUserDirectories(this.#options, userId)
  }

  /**
   * Starts a user's process: directories, config, handshake, login. With all slots in use, `makeRoom` is asked to end
   * a process; false when it cannot. Throws PoolFull, ProcessStartFailed or ShuttingDown. The slot is free again when
   * the process is gone. `signal` stops the process, also in the middle of its start.
   */
  async start(
    userId: string,
    handlers: ProcessHandlers,
    signal?: AbortSignal,
    makeRoom: () => Promise<boolean> = async () => false
  ): Promise<CodexProcess> {
    if (this.#closed || signal?.aborted) throw new ShuttingDown()
    await this.#slots.take(makeRoom, signal)
    let release = () => {
      this.#slots.release()
      release = () => {}
    }
    try {
      return await this.#start(userId, { ...handlers, onRelease: () => release() }, signal)
    } catch (error) {
      release()
      throw error
    }
  }

  /** Stops every process. New starts are refused from here on. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([this.#template.close(), ...[...this.#processes].map((process) => process.stop())])
    await this.#outputs?.close()
    this.#endGuard()
  }

  async #start(userId: string, handlers: StartHandlers, signal?: AbortSignal): Promise<CodexProcess> {
    const directories = await this.prepareDirectories(userId)
    await this.#template.seed(directories.codexHome)
    const mark = this.#newMark()
    await Promise.all([this.#writeConfig(directories, mark), writePromptRules(directories.codexHome)])
    if (signal?.aborted) throw new ShuttingDown()
    let grant: ModelGrant | undefined
    const process = await this.#spawn({ directories }, mark, {
      ...handlers,
      onExit: (exit) => {
        grant?.revoke()
        signal?.removeEventListener('abort', stop)
        handlers.onRelease()
        handlers.onExit(exit)
      }
    })
    const stop = () => void process.stop()
    signal?.addEventListener('abort', stop)
    if (signal?.aborted) stop()
    await this.#initialize(process)
    grant = this.#options.grantModel?.(userId)
    if (grant) await this.#login(process, grant)
    this.#template.restockSoon()
    return process
  }

  #initialize(process: CodexProcess): Promise<void> {
    const { clientVersion, startTimeoutMs } = this.#options
    return process.initialize(clientVersion, startTimeoutMs)
  }

  async #spawn(spec: PrepareSpec, mark: string, handlers: ProcessHandlers): Promise<CodexProcess> {
    const { binary, launcher, gatewayEnv } = this.#options
    await launcher.prepare(spec)
    const directories = launcher.view(spec.directories)
    const shimDirectory = launcher.inside(this.#shimDirectory)
    const env = codexEnvironment({ directories, mark, shimDirectory, gatewayEnv })
    const [child, output] = await this.#launch({ argv: [launcher.inside(binary), 'app-server'], env, ...spec })
    const process = new CodexProcess(child, output, mark, handlers)
    this.#processes.add(process)
    // With all that it left behind: a close in between has to wait for that, too.
    void process.gone.then(() => this.#processes.delete(process))
    return process
  }

  async #launch(spec: Omit<LaunchSpec, 'stdout'>): Promise<[LaunchedProcess, ProcessOutput]> {
    const { launcher } = this.#options
    // Where there can be no sockets (no directory for temporary files), a pipe does: it costs more in a flood.
    const socket = await this.#outputs?.take().catch(() => undefined)
    try {
      if (this.#closed) throw new ShuttingDown()
      const child = launcher.launch({ ...spec, stdout: socket?.childEnd ?? 'pipe' })
      return [child, socket?.output ?? pipedOutput(child.stdout as Readable)]
    } catch (error) {
      socket?.output.destroy()
      throw error
    } finally {
      // The child's alone from here on: when it is gone, that is the end of the output.
      socket?.childEnd.destroy()
    }
  }

  async #login(process: CodexProcess, { token, revoke }: ModelGrant): Promise<void> {
    try {
      await process.request('account/login/start', { type: 'apiKey', apiKey: token }, LOGIN_TIMEOUT_MS)
    } catch (error) {
      // Here, too: a process that ended before its token was made has told of its end already.
      revoke()
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

  #newMark(): string {
    return `${this.#boot}${randomBytes(8).toString('hex')}`
  }
}
