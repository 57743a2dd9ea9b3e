import { randomBytes } from 'node:crypto'
import { readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PROTECTED_NAMES } from './codex-home-guard.ts'
import type { Launcher } from './launcher.ts'
import { type DirectoryRoots, prepareUserDirectories, type UserDirectories, userKey } from './user-directories.ts'

export interface PreflightOptions extends DirectoryRoots {
  /** The codex binary. */
  binary: string
}

const TIMEOUT_MS = 20_000
const OUTPUT_KEPT_CHARS = 4_000
const LAST_LINE = 'looked at everything'
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const NAMESPACES = ['mnt', 'pid', 'ipc', 'uts', 'user'] as const

/**
 * Tries on this host, from inside one user's box, what must not be possible: to read another user's files or the
 * gateway's, to write outside the user's own directories, to see the host's processes. And what must: to work in the
 * workspace, and in codex's own sandbox nested in the box. Returns what failed, in words for a person; empty when the
 * launcher keeps users apart.
 */
export async function findBreaches(launcher: Launcher, options: PreflightOptions): Promise<string[]> {
  const probe = randomBytes(8).toString('hex')
  // Not a name that a user could have: it has a space.
  const [own, other] = [`preflight ${probe} a`, `preflight ${probe} b`]
  const marker = join(options.dataDir, `preflight-${probe}`)
  try {
    const directories = await prepareUserDirectories(options, own)
    const others = await prepareUserDirectories(options, other)
    const secrets = [join(others.workspace, 'secret'), join(others.codexHome, 'secret'), marker]
    await Promise.all(secrets.map((path) => writeFile(path, probe)))
    await launcher.prepare({ directories })
    const view = launcher.view(directories)
    const script = renderScript({
      unreadable: secrets,
      writable: [view.workspace, view.codexHome, view.temporary],
      readOnly: ['/', '/usr', '/etc', '/dev', '/proc/sys/kernel', '/proc/sys', view.home],
      readOnlyFiles: ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/etc/passwd'],
      settings: PROTECTED_NAMES.map((name) => join(view.codexHome, name)),
      namespaces: await hostNamespaces()
    })
    return readReport(await run(launcher, directories, { binary: options.binary, script }))
  } catch (error) {
    return [(error as Error).message]
  } finally {
    await rm(marker, { force: true })
    for (const user of [own, other]) {
      await rm(join(options.dataDir, 'homes', userKey(user)), { recursive: true, force: true })
      await rm(join(options.workspaceRoot, userKey(user)), { recursive: true, force: true })
    }
  }
}

interface Trials {
  unreadable: readonly string[]
  /** Directories. */
  writable: readonly string[]
  readOnly: readonly string[]
  readOnlyFiles: readonly string[]
  /** Of the codex home: files or directories. */
  settings: readonly string[]
  /** `name:[inode]` of the host's namespaces that must not be those of the box. */
  namespaces: readonly string[]
}

/** Prints a line for each breach, and LAST_LINE. `$1` is the codex binary as it is found inside. */
function renderScript({ unreadable, writable, readOnly, readOnlyFiles, settings, namespaces }: Trials): string {
  const each = (values: readonly string[], body: string) =>
    values.length === 0 ? '' : `for it in ${values.map(quote).join(' ')}; do ${body}; done`
  return [
    each(unreadable, 'if [ -e "$it" ] || cat "$it"; then echo "BREACH what lies at $it can be read"; fi'),
    each(writable, 'echo x > "$it/written" || echo "BREACH the user\'s own $it cannot be written to"'),
    each(readOnly, 'if echo x > "$it/written"; then rm "$it/written"; echo "BREACH $it can be written to"; fi'),
    each(readOnlyFiles, 'if [ -w "$it" ] && true >> "$it"; then echo "BREACH $it can be written to"; fi'),
    each(
      settings,
      'if true >> "$it" || true > "$it/written" || rm -r "$it"; then echo "BREACH $it can be changed"; fi'
    ),
    each(
      namespaces,
      `kind=\${it%%:*}; case "$(readlink "/proc/self/ns/$kind")" in ""|"$it") echo "BREACH the $kind namespace is the host's";; esac`
    ),
    `"$1" sandbox -c 'sandbox_mode="workspace-write"' -- /bin/sh -c '${SANDBOX_TRIAL}'`,
    '[ "$(cat sandboxed)" = sandboxed ] || echo "BREACH codex runs no command in its own sandbox here"',
    '[ -e "$CODEX_HOME/escaped" ] && echo "BREACH codex\'s own sandbox does not hold"',
    `echo ${quote(LAST_LINE)}`
  ].join('\n')
}

const SANDBOX_TRIAL = 'echo x > "$CODEX_HOME/escaped"; echo sandboxed > sandboxed'

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

async function hostNamespaces(): Promise<string[]> {
  return Promise.all(NAMESPACES.map((name) => readlink(`/proc/self/ns/${name}`)))
}

/** What the script said; of a box that could not be built, its own words. */
function readReport(output: string): string[] {
  const lines = output.split('\n')
  const breaches = lines.filter((line) => line.startsWith('BREACH ')).map((line) => line.slice('BREACH '.length))
  if (lines.includes(LAST_LINE)) return breaches
  const words = lines.filter((line) => line !== '').at(-1)
  return [...breaches, words ?? `no answer within ${TIMEOUT_MS} ms`]
}

/** Runs the script in the user's box; resolves with what it wrote to stdout and stderr. */
function run(
  launcher: Launcher,
  directories: UserDirectories,
  { binary, script }: { binary: string; script: string }
): Promise<string> {
  const { codexHome, home } = launcher.view(directories)
  const child = launcher.launch({
    argv: ['/bin/sh', '-c', script, 'preflight', launcher.inside(binary)],
    env: { PATH, HOME: home, CODEX_HOME: codexHome },
    directories,
    stdout: 'pipe'
  })
  return new Promise((resolve) => {
    let output = ''
    const keep = (text: string) => {
      output = (output + text).slice(-OUTPUT_KEPT_CHARS)
    }
    child.stdout?.setEncoding('utf8').on('data', keep)
    child.stderr.setEncoding('utf8').on('data', keep)
    child.stdin.on('error', () => {}).end()
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS)
    child.on('error', (error) => keep(`\n${error.message}\n`))
    child.on('close', () => {
      clearTimeout(timer)
      resolve(output)
    })
  })
}
