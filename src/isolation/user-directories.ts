import { createHash } from 'node:crypto'
import { mkdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'

const PRIVATE_MODE = 0o700

/** Where one user's files lie on the host. Absolute paths; the names are a hash of the user id, never the id. */
export interface UserDirectories {
  /** `CODEX_HOME` of the user's codex process. */
  codexHome: string
  /** `HOME` of the user's codex process; apart from the workspace, so that an agent cannot plant shell profiles. */
  home: string
  workspace: string
  /** The /tmp of the user's processes, under a launcher that gives them one. */
  temporary: string
}

export interface DirectoryRoots {
  dataDir: string
  workspaceRoot: string
}

/** The directory name that stands for a user: 128 bits of SHA-256, so two ids never share one. */
export function userKey(userId: string): string {
  return `u${createHash('sha256').update(userId).digest('hex').slice(0, 32)}`
}

/** Makes the user's directories (0700) where they are missing and returns their real paths. */
export async function prepareUserDirectories(roots: DirectoryRoots, userId: string): Promise<UserDirectories> {
  const key = userKey(userId)
  const base = join(roots.dataDir, 'homes', key)
  const made = {
    codexHome: join(base, 'codex'),
    home: join(base, 'home'),
    workspace: join(roots.workspaceRoot, key),
    temporary: join(base, 'tmp')
  }
  await Promise.all([
    // codex watches /etc or $HOME more widely when the skills directory is missing, and then wakes for every change.
    mkdir(join(made.home, '.agents', 'skills'), { recursive: true, mode: PRIVATE_MODE }),
    mkdir(made.codexHome, { recursive: true, mode: PRIVATE_MODE }),
    mkdir(made.workspace, { recursive: true, mode: PRIVATE_MODE }),
    mkdir(made.temporary, { recursive: true, mode: PRIVATE_MODE })
  ])
  const [codexHome, home, workspace, temporary] = await Promise.all([
    realpath(made.codexHome),
    realpath(made.home),
    realpath(made.workspace),
    realpath(made.temporary)
  ])
  return { codexHome, home, workspace, temporary }
}
