import { posix } from 'node:path'
import type { PolicyContext } from './context.ts'
import { guardedName, sensitiveName } from './sensitive.ts'

/** A compiled path pattern: one exact path, or everything below a directory. Relative ones start at the workspace. */
export interface PathPattern {
  readonly path: string
  readonly below: boolean
}

export function compilePattern(pattern: string): PathPattern {
  if (pattern === '*') return { path: '.', below: true }
  return pattern.endsWith('/*') ? { path: pattern.slice(0, -2), below: true } : { path: pattern, below: false }
}

/** Whether `path` is `root` or lies below it, by whole components. Both absolute and normalised. */
export function isWithin(path: string, root: string): boolean {
  return path === root || root === '/' || path.startsWith(`${root}/`)
}

/**
 * Which paths one request may read or write. Every comparison is between real paths, by whole components. A problem is
 * returned as a sentence; undefined is a pass.
 */
export class PathScope {
  readonly #context: PolicyContext
  readonly #workspace: string
  readonly #allowed: readonly PathPattern[]
  readonly #real = new Map<string, string | undefined>()

  constructor(context: PolicyContext, workspace: string, allowed: readonly PathPattern[]) {
    this.#context = context
    this.#workspace = workspace
    this.#allowed = allowed
  }

  /** Links resolved, once per path and decision. */
  real(path: string): string | undefined {
    if (!this.#real.has(path)) this.#real.set(path, this.#context.resolve(path))
    return this.#real.get(path)
  }

  /** Whether a directory is the workspace itself, links resolved. */
  isWorkspace(directory: string): boolean {
    const real = this.real(directory)
    return real !== undefined && real === this.real(this.#workspace)
  }

  /** @returns why a command may not run here, or undefined. */
  cwdProblem(cwd: string): string | undefined {
    if (!posix.isAbsolute(cwd)) return 'the working directory is not known'
    const real = this.real(cwd)
    const workspace = this.real(this.#workspace)
    if (real === undefined || workspace === undefined) return `"${cwd}" cannot be resolved`
    if (!isWithin(real, workspace)) return 'the working directory is outside the workspace'
    return this.#protectedProblem(real, workspace) ?? named(sensitiveName(real.slice(workspace.length)), cwd)
  }

  /**
   * @param path as the command names it, relative to `cwd`
   * @param walks whether the program descends into it
   * @returns why it may not be read, or undefined.
   */
  readProblem(path: string, cwd: string, walks: boolean): string | undefined {
    const real = this.real(absolute(path, cwd))
    const workspace = this.real(this.#workspace)
    if (real === undefined || workspace === undefined) return `"${path}" cannot be resolved`
    const root = isWithin(real, workspace) ? workspace : this.#coveringRoot(real, this.#allowed, true)
    if (root === undefined) return `"${path}" is outside the workspace and the allowlisted paths`
    return (
      this.#protectedProblem(real, workspace) ??
      named(sensitiveName(real.slice(root.length)) ?? sensitiveName(this.#beyondRoots(path)), path) ??
      (walks && this.#protectedBelow(real, workspace) ? `"${path}" holds a protected directory` : undefined)
    )
  }

  /** @returns why even an owner's rule may not open this path (another user's, the gateway's, a secret), or undefined. */
  closedProblem(path: string, cwd: string): string | undefined {
    const real = this.real(absolute(path, cwd))
    const workspace = this.real(this.#workspace)
    if (real === undefined || workspace === undefined) return `"${path}" cannot be resolved`
    const beyond = isWithin(real, workspace) ? real.slice(workspace.length) : real
    return this.#protectedProblem(real, workspace) ?? named(sensitiveName(beyond), path)
  }

  /** @returns why something inside a repository may not be shown, or undefined. */
  namesProblem(names: readonly string[]): string | undefined {
    const path = names.find((name) => sensitiveName(name) !== undefined)
    return path === undefined ? undefined : named(sensitiveName(path), path)
  }

  /**
   * @param allowed where changes are accepted; the allowlisted paths unless a rule names its own
   * @returns why a file change may not touch this path, or undefined.
   */
  writeProblem(path: string, allowed: readonly PathPattern[] = this.#allowed): string | undefined {
    if (path.split('/').includes('..')) return `"${path}" is not normalised`
    const written = absolute(path, this.#workspace)
    // Replacing or deleting a link changes its directory, writing through it changes its target: both must be allowed.
    const directory = this.real(posix.dirname(written))
    const target = this.real(written)
    const workspace = this.real(this.#workspace)
    if (directory === undefined || target === undefined || workspace === undefined)
      return `"${path}" cannot be resolved`
    const guarded = named(guardedName(this.#beyondRoots(path)), path)
    return (
      guarded ??
      this.#placeProblem(posix.join(directory, posix.basename(written)), path, workspace, allowed) ??
      this.#placeProblem(target, path, workspace, allowed)
    )
  }

  /**
   * Whether a path is covered by one of the patterns, links resolved.
   *
   * @param orAsWritten a path that is covered before its links are resolved counts as well
   */
  covers(patterns: readonly PathPattern[], path: string, cwd: string, orAsWritten: boolean): boolean {
    const real = this.real(absolute(path, cwd))
    const candidates = orAsWritten ? [real, posix.resolve(cwd, path)] : [real]
    return candidates.some((one) => one !== undefined && this.#coveringRoot(one, patterns, true) !== undefined)
  }

  #placeProblem(real: string, path: string, workspace: string, allowed: readonly PathPattern[]): string | undefined {
    const root = this.#coveringRoot(real, allowed, false)
    if (root === undefined) return `"${path}" is not below an allowlisted path`
    return this.#protectedProblem(real, workspace) ?? named(guardedName(real.slice(root.length)), path)
  }

  /** The real directory (or file) of the pattern that covers a real path. The directory itself counts where `inclusive`. */
  #coveringRoot(real: string, patterns: readonly PathPattern[], inclusive: boolean): string | undefined {
    for (const pattern of patterns) {
      const root = this.real(absolute(pattern.path, this.#workspace))
      if (root === undefined) continue
      if (pattern.below ? isWithin(real, root) && (inclusive || real !== root) : real === root) return root
    }
    return undefined
  }

  #protectedProblem(real: string, workspace: string): string | undefined {
    const inside = this.#context.protectedRoots.some((path) => {
      const root = this.real(path)
      if (root === undefined || !isWithin(real, root)) return false
      // The workspaces directory holds this workspace too; a codex home inside the workspace stays closed.
      return !(isWithin(workspace, root) && isWithin(real, workspace))
    })
    return inside ? 'the path belongs to the gateway or to another user' : undefined
  }

  #protectedBelow(real: string, workspace: string): boolean {
    return this.#context.protectedRoots.some((path) => {
      const root = this.real(path)
      return root !== undefined && isWithin(root, real) && !isWithin(workspace, root)
    })
  }

  /** The part of a written path that its author chose: without the workspace or the allowlisted directory before it. */
  #beyondRoots(path: string): string {
    const roots = [this.#workspace, ...this.#allowed.map((pattern) => absolute(pattern.path, this.#workspace))]
    const root = roots.find((one) => isWithin(path, one))
    return root === undefined ? path : path.slice(root.length)
  }
}

function absolute(path: string, base: string): string {
  if (path.startsWith('/')) return path
  return path === '.' ? base : `${base}/${path}`
}

function named(name: string | undefined, path: string): string | undefined {
  return name === undefined ? undefined : `"${path}" goes through "${name}", which is always asked`
}
