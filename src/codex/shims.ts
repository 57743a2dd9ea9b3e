import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'

/** What codex 0.169 runs at every start, to warn when its sandbox cannot work; it makes two kernel namespaces. */
const SANDBOX_PROBE = ['--unshare-user', '--unshare-net', '--ro-bind', '/', '/', '/bin/true']
const PROBE_TIMEOUT_MS = 10_000

/**
 * Makes the directory that comes first on codex's own PATH, which the commands it runs do not see, and returns it. It
 * takes two slow things out of codex's start: `lsb_release`, which codex runs twice (Debian's is a script with about
 * ten children), is hidden; and bubblewrap's probe, a third of the start, is run once here instead of in every process.
 *
 * @param path the PATH on which bubblewrap is looked for, as codex would
 */
export async function prepareShims(dataDir: string, path: string): Promise<string> {
  const directory = join(dataDir, 'shims')
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true, mode: 0o755 })
  await symlink('/bin/false', join(directory, 'lsb_release'))
  const bubblewrap = await findProgram('bwrap', path)
  if (bubblewrap !== undefined && (await passesProbe(bubblewrap))) {
    await writeFile(join(directory, 'bwrap'), renderBubblewrapShim(bubblewrap), { mode: 0o755 })
  }
  return directory
}

/** Everything but the probe is bubblewrap's own: codex's file helper builds its sandbox with what it finds on this PATH. */
function renderBubblewrapShim(bubblewrap: string): string {
  const quoted = `'${bubblewrap.replaceAll("'", "'\\''")}'`
  return `#!/bin/sh\n[ "$*" = '${SANDBOX_PROBE.join(' ')}' ] && exit 0\nexec ${quoted} "$@"\n`
}

/** Without a passing probe there is no shim, so that codex finds out by itself and warns. */
function passesProbe(bubblewrap: string): Promise<boolean> {
  return promisify(execFile)(bubblewrap, SANDBOX_PROBE, { timeout: PROBE_TIMEOUT_MS, env: {} }).then(
    () => true,
    () => false
  )
}

async function findProgram(name: string, path: string): Promise<string | undefined> {
  for (const directory of path.split(delimiter)) {
    const candidate = join(directory, name)
    if (isAbsolute(candidate) && (await isExecutable(candidate))) return candidate
  }
  return undefined
}

function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false
  )
}
