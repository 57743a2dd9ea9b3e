import { lstat, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * What of a codex home codex reads as settings, or runs, at a later moment: an accepted command must not plant it. They
 * are read-only inside, and each must exist, because what is missing could be made.
 */
const SETTING_DIRECTORIES = ['rules', 'hooks', 'skills', 'prompts', 'agents', 'plugins']
const SETTING_FILES: readonly (readonly [name: string, empty: string])[] = [
  ['config.toml', ''],
  ['requirements.toml', ''],
  ['hooks.json', '{}'],
  ['AGENTS.md', ''],
  ['AGENTS.override.md', '']
]
/** Read once, when codex starts: what an earlier process left there is gone before. */
const REMOVED = ['.env', 'environments.toml', 'auth.json']

/** The names inside a codex home that are read-only to the processes of its user. */
export const PROTECTED_NAMES: readonly string[] = [...SETTING_DIRECTORIES, ...SETTING_FILES.map(([name]) => name)]

/**
 * Makes every protected name what it should be and takes away what must not be there. For a home whose processes have
 * ended; what is there already and is of the right kind stays.
 */
export async function guardCodexHome(codexHome: string): Promise<void> {
  await Promise.all([
    ...REMOVED.map((name) => rm(join(codexHome, name), { recursive: true, force: true })),
    ...SETTING_DIRECTORIES.map((name) => keepDirectory(join(codexHome, name))),
    ...SETTING_FILES.map(([name, empty]) => keepFile(join(codexHome, name), empty))
  ])
}

async function keepDirectory(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found?.isDirectory()) return
  // A symlink would have its target mounted, wherever that is.
  if (found) await rm(path, { force: true })
  await mkdir(path, { mode: 0o700 })
}

async function keepFile(path: string, empty: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  // Another name of the same file would stay writable.
  if (found?.isFile() && found.nlink === 1) return
  if (found) await rm(path, { recursive: true, force: true })
  await writeFile(path, empty, { mode: 0o600, flag: 'wx' })
}
