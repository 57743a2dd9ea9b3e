import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import {
  type BoxOptions,
  ETC_NAMES,
  INSIDE,
  RESOLVER,
  systemArguments,
  systemMounts,
  userArguments,
  userMounts
} from './bubblewrap-arguments.ts'
import { guardCodexHome } from './codex-home-guard.ts'
import type { LaunchedProcess, Launcher, LaunchSpec, PrepareSpec } from './launcher.ts'
import type { Mount } from './mounts.ts'
import type { UserDirectories } from './user-directories.ts'

export interface BubblewrapOptions {
  /** The bubblewrap program. */
  program: string
  /** The codex binary. */
  binary: string
  dataDir: string
  workspaceRoot: string
  /** Further host paths that processes may read. */
  readablePaths: readonly string[]
}

/**
 * Starts each user's codex in a box of its own: the system read-only, only this user's workspace, codex home and /tmp to
 * write to, at the same paths for everybody, in its own pid, ipc, uts and user namespaces. The network is the host's.
 */
export class BubblewrapLauncher implements Launcher {
  readonly name = 'bubblewrap'
  readonly isolates = true
  readonly #program: string
  readonly #binary: string
  readonly #root: string
  readonly #box: BoxOptions
  readonly #system: readonly string[]

  private constructor(options: BubblewrapOptions, box: BoxOptions, root: string) {
    this.#program = options.program
    this.#binary = options.binary
    this.#box = box
    this.#root = root
    this.#system = systemArguments(box)
  }

  /** Makes the few files that all boxes share, in DATA_DIR. Rejects as the file system does. */
  static async open(options: BubblewrapOptions): Promise<BubblewrapLauncher> {
    const { binary, dataDir, workspaceRoot, readablePaths } = options
    const shared = join(dataDir, 'isolation')
    const box: BoxOptions = {
      codex: mountOf(binary),
      shimDirectory: join(dataDir, 'shims'),
      etcDirectory: join(shared, 'etc'),
      readablePaths,
      hiddenPaths: [dataDir, workspaceRoot],
      isRoot: process.getuid?.() === 0
    }
    const root = join(shared, 'root')
    await rm(shared, { recursive: true, force: true })
    await mkdir(root, { recursive: true, mode: 0o700 })
    await mkdir(box.shimDirectory, { recursive: true, mode: 0o755 })
    await makeEtc(box.etcDirectory)
    for (const { at } of [...systemMounts(box), { at: INSIDE.home }]) {
      await mkdir(join(root, dirname(at)), { recursive: true })
    }
    return new BubblewrapLauncher(options, box, root)
  }

  async prepare({ directories: { codexHome, home, temporary }, fillsHome = false }: PrepareSpec): Promise<void> {
    if (!fillsHome) await Promise.all([guardCodexHome(codexHome), empty(temporary)])
    await mkdir(join(home, '.cache'), { recursive: true, mode: 0o700 })
  }

  launch({ argv: [program, ...args], env, directories, stdout, fillsHome = false }: LaunchSpec): LaunchedProcess {
    const all = [...this.#system, ...userArguments(directories, fillsHome), program, ...args]
    const options = { cwd: '/', env, detached: true }
    return stdout === 'pipe'
      ? spawn(this.#program, all, { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
      : spawn(this.#program, all, { ...options, stdio: ['pipe', stdout, 'pipe'] })
  }

  view(): UserDirectories {
    const { workspace, codexHome, home, temporary } = INSIDE
    return { workspace, codexHome, home, temporary }
  }

  inside(hostPath: string): string {
    if (hostPath === this.#binary) return binaryInside(hostPath)
    return hostPath === this.#box.shimDirectory ? INSIDE.shims : hostPath
  }

  mounts(directories: UserDirectories): readonly Mount[] {
    // The root holds nothing but places to mount on: so it is known that there is nothing else.
    return [{ at: '/', host: this.#root }, ...systemMounts(this.#box), ...userMounts(directories)]
  }
}

async function makeEtc(directory: string): Promise<void> {
  // Without this directory an idle codex watches /etc more widely.
  await mkdir(join(directory, 'codex', 'skills'), { recursive: true })
  for (const name of ETC_NAMES.filter((name) => existsSync(join('/etc', name)))) {
    await cp(join('/etc', name), join(directory, name), { recursive: true, verbatimSymlinks: true })
  }
  await writeFile(join(directory, basename(RESOLVER)), '')
  await writeFile(join(directory, 'passwd'), `codex:x:1000:1000:codex:${INSIDE.home}:/bin/bash\n`)
  await writeFile(join(directory, 'group'), 'codex:x:1000:\n')
}

/** What codex keeps in /tmp names processes by numbers that mean others in the next box. */
async function empty(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { mode: 0o700 })
}

function binaryInside(binary: string): string {
  return join(INSIDE.codex, 'bin', basename(binary))
}

/** The whole package, where codex brings programs of its own, else the binary alone. */
function mountOf(binary: string): Mount {
  const directory = dirname(dirname(binary))
  const isPackage = basename(dirname(binary)) === 'bin' && existsSync(join(directory, 'codex-resources'))
  return isPackage ? { at: INSIDE.codex, host: directory } : { at: binaryInside(binary), host: binary }
}
