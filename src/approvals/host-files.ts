import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats, statSync } from 'node:fs'
import { posix } from 'node:path'
import type { Mount } from '../isolation/mounts.ts'
import type { FileView, RepositoryState } from './context.ts'
import { configProblem } from './git-config.ts'

const MAX_LINKS = 40
const MAX_CONFIG_BYTES = 256 * 1024
const MAX_INDEX_BYTES = 64 * 1024 * 1024
/** The mode of a submodule entry (0160000), big-endian, as it stands in a git index. */
const GITLINK_MODE = Buffer.from([0x00, 0x00, 0xe0, 0x00])
/** Links in here resolve per process: the gateway's answer is not codex's. */
const PER_PROCESS = /^\/(?:proc|dev|sys)(?:\/|$)/

/** The host's file system, for a codex that sees the same paths. */
export const hostFiles: FileView = createFileView([{ at: '/', host: '/' }])

/** Resolves an absolute host path: links followed, what does not exist kept as written. */
export const resolveHostPath: FileView['resolve'] = hostFiles.resolve

/**
 * The file system of a codex whose launcher mounts host directories at other paths. Links are followed in codex's
 * namespace: a link to /workspace/x means the mounted workspace, whatever the host has there.
 *
 * @param mounts the deepest that holds a path decides; a path in none of them cannot be resolved
 */
export function createFileView(mounts: readonly Mount[]): FileView {
  const deepestFirst = [...mounts].sort((left, right) => right.at.length - left.at.length)
  const mountPoints = new Set(mounts.map(({ at }) => at))

  function toHost(path: string): string | undefined {
    const mount = deepestFirst.find(({ at }) => at === '/' || path === at || path.startsWith(`${at}/`))
    if (mount === undefined || mount.host === null) return undefined
    return posix.join(mount.host, path.slice(mount.at === '/' ? 0 : mount.at.length))
  }

  function resolve(path: string): string | undefined {
    return path.startsWith('/') ? new PathWalk(path, toHost, mountPoints).walk() : undefined
  }

  function isDirectory(path: string): boolean {
    const real = resolve(path)
    const host = real === undefined ? undefined : toHost(real)
    return host !== undefined && statSync(host, { throwIfNoEntry: false })?.isDirectory() === true
  }

  function inspectRepository(directory: string): RepositoryState {
    for (let at = resolve(directory); at !== undefined; at = posix.dirname(at)) {
      const host = toHost(at)
      if (host === undefined) return unproven(`"${at}" cannot be looked into`)
      const found = repositoryAt(host)
      if (found !== undefined) {
        return at === directory ? found : unproven('the repository starts above the working directory')
      }
      if (at === '/') return { state: 'none' }
    }
    return unproven(`"${directory}" cannot be resolved`)
  }

  return { resolve, isDirectory, inspectRepository }
}

/** Follows one path name by name in codex's namespace, as the kernel would. */
class PathWalk {
  readonly #toHost: (path: string) => string | undefined
  readonly #mountPoints: ReadonlySet<string>
  readonly #pending: string[]
  #real = ''
  #links = 0
  #missing = false

  constructor(path: string, toHost: (path: string) => string | undefined, mountPoints: ReadonlySet<string>) {
    this.#toHost = toHost
    this.#mountPoints = mountPoints
    this.#pending = path.split('/').reverse()
  }

  walk(): string | undefined {
    while (this.#pending.length > 0) {
      const name = this.#pending.pop() as string
      if (name === '' || name === '.') continue
      if (name === '..') {
        this.#real = this.#real.slice(0, Math.max(this.#real.lastIndexOf('/'), 0))
        this.#missing = false
      } else if (!this.#enter(`${this.#real}/${name}`)) {
        return undefined
      }
    }
    return this.#real === '' ? '/' : this.#real
  }

  #enter(next: string): boolean {
    const host = this.#toHost(next)
    if (host === undefined || PER_PROCESS.test(next)) return false
    if (this.#missing || this.#mountPoints.has(next)) {
      this.#real = next
      return true
    }
    const stats = lookAt(host)
    if (stats === 'unknown') return false
    if (stats?.isSymbolicLink() === true) return this.#follow(host)
    // The kernel would refuse file/more; a later rename could make it anything.
    if (stats?.isFile() === true && this.#pending.some((rest) => rest !== '')) return false
    this.#missing = stats === undefined
    this.#real = next
    return true
  }

  #follow(host: string): boolean {
    this.#links += 1
    const target = readLink(host)
    if (this.#links > MAX_LINKS || target === undefined) return false
    if (target.startsWith('/')) this.#real = ''
    this.#pending.push(...target.split('/').reverse())
    return true
  }
}

function lookAt(host: string): Stats | undefined | 'unknown' {
  try {
    return lstatSync(host, { throwIfNoEntry: false })
  } catch {
    return 'unknown'
  }
}

function readLink(host: string): string | undefined {
  try {
    return readlinkSync(host)
  } catch {
    return undefined
  }
}

function unproven(reason: string): RepositoryState {
  return { state: 'unproven', reason }
}

function repositoryAt(host: string): RepositoryState | undefined {
  const dotGit = lookAt(posix.join(host, '.git'))
  if (dotGit === 'unknown') return unproven('the .git directory cannot be read')
  if (dotGit === undefined) {
    const bare = ['HEAD', 'objects', 'refs'].every((name) => lookAt(posix.join(host, name)) !== undefined)
    return bare ? unproven('the directory is itself a git directory') : undefined
  }
  // A .git file or link sends git to a directory that the agent may have prepared.
  if (!dotGit.isDirectory()) return unproven('.git is not a directory')
  try {
    return inspectGitDirectory(posix.join(host, '.git'))
  } catch {
    return unproven('the .git directory cannot be read')
  }
}

function inspectGitDirectory(gitDirectory: string): RepositoryState {
  const names = readdirSync(gitDirectory)
  if (names.includes('commondir') || names.includes('config.worktree'))
    return unproven('git reads a second configuration')
  if (names.some((name) => name.startsWith('sharedindex.'))) return unproven('the index is split')
  const config = posix.join(gitDirectory, 'config')
  if (names.includes('config') && lstatSync(config).size > MAX_CONFIG_BYTES)
    return unproven('the git config is too large')
  const problem = names.includes('config') ? configProblem(readFileSync(config, 'utf8')) : undefined
  if (problem !== undefined) return unproven(problem)
  if (!names.includes('index')) return { state: 'plain' }
  const index = posix.join(gitDirectory, 'index')
  if (lstatSync(index).size > MAX_INDEX_BYTES) return unproven('the git index is too large')
  // git runs `git status` inside every submodule, with the configuration of that submodule: its filters would run.
  return readFileSync(index).includes(GITLINK_MODE) ? unproven('the repository has submodules') : { state: 'plain' }
}
