import { execFile } from 'node:child_process'
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

/** What codex 0.169 asks of bubblewrap at every start, only to warn when its sandbox cannot work. */
const SANDBOX_PROBE = ['--unshare-user', '--unshare-net', '--ro-bind', '/', '/', '/bin/true']
const PROBE_TIMEOUT_MS = 10_000

/**
 * Makes the directory that comes first on codex's own PATH, which the commands it runs do not see, and returns it. It
 * takes two slow things out of every start: `lsb_release`, which codex runs twice (Debian's is a script with about ten
 * children), and the probe of bubblewrap, for which codex waits in steps of 50 ms. The probe is made once here, of the
 * bubblewrap that comes with codex: where that one works, codex needs no other for its own files. Its commands, with a
 * PATH of their own, use the machine's.
 */
export async function prepareShims(dataDir: string, binary: string): Promise<string> {
  const directory = join(dataDir, 'shims')
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true, mode: 0o755 })
  await symlink('/bin/false', join(directory, 'lsb_release'))
  // Executable but no program: codex takes a probe that cannot be started for no reason to warn, and goes on at once.
  if (await passesProbe(bundledBubblewrap(binary))) await writeFile(join(directory, 'bwrap'), '', { mode: 0o755 })
  return directory
}

function bundledBubblewrap(binary: string): string {
  return join(dirname(dirname(binary)), 'codex-resources', 'bwrap')
}

function passesProbe(bubblewrap: string): Promise<boolean> {
  return promisify(execFile)(bubblewrap, SANDBOX_PROBE, { timeout: PROBE_TIMEOUT_MS, env: {} }).then(
    () => true,
    () => false
  )
}
