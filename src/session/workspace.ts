import { mkdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, relative, sep } from 'node:path'
import { OutsideWorkspace } from '../../errors.ts'
import type { UserDirectories } from './directories.ts'

/**
 * Confines a directory that a client names to the user's workspace, and makes it if it is missing. Relative paths count
 * from the workspace, absolute ones are as codex sees them. Returns the path as codex sees it, symlinks resolved.
 * Throws OutsideWorkspace. A symlink that changes after the check is what OS isolation is for.
 */
export async function resolveWorkspaceDirectory(
  path: string,
  directories: UserDirectories,
  view: UserDirectories
): Promise<string> {
  const hostPath = join(directories.workspace, relativeToWorkspace(path, view))
  const real = await realDirectory(hostPath, directories.workspace)
  if (real === undefined) throw new OutsideWorkspace(path)
  return join(view.workspace, relative(directories.workspace, real))
}

/** The same for a file or a filter: nothing is made, and what is missing is judged by its nearest existing ancestor. */
export async function resolveWorkspacePath(
  path: string,
  directories: UserDirectories,
  view: UserDirectories
): Promise<string> {
  const inside = relativeToWorkspace(path, view)
  const missing: string[] = []
  let current = join(directories.workspace, inside)
  let real = await realpath(current).catch(() => undefined)
  while (real === undefined && current !== directories.workspace) {
    missing.unshift(basename(current))
    current = dirname(current)
    real = await realpath(current).catch(() => undefined)
  }
  if (real === undefined || escapes(relative(directories.workspace, real))) throw new OutsideWorkspace(path)
  return join(view.workspace, relative(directories.workspace, real), ...missing)
}

/** The directories from `path` up to and with the workspace (all as codex sees them). */
export function ancestorsInWorkspace(path: string, workspace: string): string[] {
  const found = [path]
  for (let current = path; current !== workspace && current.startsWith(workspace); current = dirname(current)) {
    found.push(dirname(current))
  }
  return found
}

/**
 * The real path of a directory below `root`, made where it is missing; undefined when it is no directory or a symlink
 * leads out of `root`. Each component is resolved before the next is made: `mkdir -p` would follow a symlink out.
 */
async function realDirectory(path: string, root: string): Promise<string | undefined> {
  let current = root
  for (const name of relative(root, path).split(sep)) {
    if (name === '') continue
    const next = join(current, name)
    const real = (await realpath(next).catch(() => undefined)) ?? (await makeDirectory(next))
    if (real === undefined || escapes(relative(root, real))) return undefined
    current = real
  }
  return (await stat(current)).isDirectory() ? current : undefined
}

async function makeDirectory(path: string): Promise<string | undefined> {
  try {
    await mkdir(path, { mode: 0o700 })
    return await realpath(path)
  } catch {
    // A dangling symlink, a file in the way, or no permission.
    return undefined
  }
}

function relativeToWorkspace(path: string, view: UserDirectories): string {
  const inside = isAbsolute(path) ? relative(view.workspace, normalize(path)) : normalize(path)
  if (path.includes('\0') || escapes(inside)) throw new OutsideWorkspace(path)
  return inside
}

function escapes(relativePath: string): boolean {
  return relativePath === '..' || relativePath.startsWith(`..${sep}`) || isAbsolute(relativePath)
}
