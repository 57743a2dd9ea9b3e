import { lstat, mkdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, relative, sep } from 'node:path'
import { OutsideWorkspace } from '../../errors.ts'
import type { WorkspacePaths } from '../codex/method-guards.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'

type Root = Pick<UserDirectories, 'workspace'>

/**
 * Confines the paths that clients name to a user's workspace. Relative paths count from the workspace, absolute ones are
 * as codex sees them; what comes back is as codex sees it, symlinks resolved. Both reject with OutsideWorkspace. A
 * symlink that changes after the check is what OS isolation is for.
 *
 * @param directories on the host
 * @param view the same as codex sees them
 */
export function workspacePaths(directories: Root, view: Root): WorkspacePaths {
  const root = directories.workspace
  const resolveWith = (resolve: (hostPath: string, root: string) => Promise<string | undefined>) => {
    return async (path: string) => {
      const inside = isAbsolute(path) ? relative(view.workspace, normalize(path)) : normalize(path)
      const isPlain = !path.includes('\0') && !escapes(inside)
      const real = isPlain ? await resolve(join(root, inside), root) : undefined
      if (real === undefined) throw new OutsideWorkspace(path)
      return join(view.workspace, relative(root, real))
    }
  }
  return { resolveDirectory: resolveWith(realDirectory), resolvePath: resolveWith(realPath) }
}

/** The real path below `root`; what does not exist yet is kept as it is written below its nearest existing ancestor. */
async function realPath(path: string, root: string): Promise<string | undefined> {
  const real = await realpath(path).catch(() => undefined)
  if (real !== undefined) return escapes(relative(root, real)) ? undefined : real
  const isDangling = await lstat(path).then(
    () => true,
    () => false
  )
  // A link to nowhere may lead anywhere once its target exists.
  if (isDangling || path === root) return undefined
  const parent = await realPath(dirname(path), root)
  return parent === undefined ? undefined : join(parent, basename(path))
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

function escapes(relativePath: string): boolean {
  return relativePath === '..' || relativePath.startsWith(`..${sep}`) || isAbsolute(relativePath)
}
