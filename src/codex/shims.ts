import { mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Makes the directory that comes first on codex's own PATH. It hides `lsb_release`: codex runs it twice before it
 * answers initialize, and Debian's is a script with about ten children. Returns the directory.
 */
export async function prepareShims(dataDir: string): Promise<string> {
  const directory = join(dataDir, 'shims')
  await mkdir(directory, { recursive: true, mode: 0o755 })
  const shim = join(directory, 'lsb_release')
  await rm(shim, { force: true })
  await symlink('/bin/false', shim)
  return directory
}
