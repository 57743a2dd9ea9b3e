import { existsSync, lstatSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { PROTECTED_NAMES } from './codex-home-guard.ts'
import type { Mount } from './mounts.ts'
import type { UserDirectories } from './user-directories.ts'

const MIB = 1024 * 1024
/** Shared memory and caches are memory of the host. */
const MEMORY_FILES_BYTES = 256 * MIB

/** Where things are for every user's processes, whatever the host calls them. */
export const INSIDE: Readonly<UserDirectories> & Record<'codex' | 'shims', string> = {
  workspace: '/workspace',
  codexHome: '/codex-home',
  home: '/home/codex',
  temporary: '/tmp',
  codex: '/opt/codex',
  shims: '/opt/shims'
}

const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'] as const
/** What programs need of /etc; no keys, no passwords, and nothing that a login shell would run. */
export const ETC_NAMES = [
  'alternatives',
  'ca-certificates',
  'crypto-policies',
  'debian_version',
  'fonts',
  'gai.conf',
  'host.conf',
  'hosts',
  'inputrc',
  'ld.so.cache',
  'ld.so.conf',
  'ld.so.conf.d',
  'localtime',
  'magic',
  'mime.types',
  'nsswitch.conf',
  'os-release',
  'pki/ca-trust',
  'pki/tls/cert.pem',
  'pki/tls/certs',
  'protocols',
  'python3',
  'services',
  'shells',
  'ssl/certs',
  'ssl/openssl.cnf',
  'terminfo',
  'timezone'
]
export const RESOLVER = '/etc/resolv.conf'
/** Whoever has the host's uid 0 may write these without any capability: core_pattern alone would be the whole host. */
const ROOTS_PROC = ['acpi', 'bus', 'fs', 'irq', 'mtrr', 'scsi', 'sys', 'sysrq-trigger'].map((name) => `/proc/${name}`)

export interface BoxOptions {
  /** codex's programs. */
  codex: Mount
  /** Directory of programs that come first on codex's own PATH. */
  shimDirectory: string
  /** What is /etc inside: one mount, because bubblewrap takes a millisecond or more for each. */
  etcDirectory: string
  /** Further host paths that processes may read, at the same place inside. */
  readablePaths: readonly string[]
  /** Host directories that must not be seen even where they lie below something that is. */
  hiddenPaths: readonly string[]
  /** Whether the gateway runs as the host's root. */
  isRoot: boolean
}

/** What every process sees of the host, read-only, apart from the user's own directories. */
export function systemMounts({ codex, shimDirectory, etcDirectory, readablePaths }: BoxOptions): Mount[] {
  const same = [...SYSTEM.filter((path) => exists(path)), ...readablePaths]
  return [
    ...same.map((path) => ({ at: path, host: path })),
    { at: '/etc', host: etcDirectory },
    // Changes while the gateway runs.
    ...(existsSync(RESOLVER) ? [{ at: RESOLVER, host: RESOLVER }] : []),
    codex,
    { at: INSIDE.shims, host: shimDirectory }
  ]
}

/** The arguments that every user's box has: namespaces, the system, /proc and /dev. */
export function systemArguments(options: BoxOptions): string[] {
  const mounts = systemMounts(options)
  return [
    // Dies with the gateway, and no terminal of the gateway's can be typed into.
    ...['--die-with-parent', '--new-session', '--unshare-user', '--uid', '1000', '--gid', '1000'],
    ...['--unshare-pid', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try'],
    ...mounts.flatMap(({ at, host }) => readOnly(at, host as string)),
    ...hiding(options.hiddenPaths, mounts),
    ...['--dir', '/home'],
    ...['--proc', '/proc', ...(options.isRoot ? ROOTS_PROC.flatMap((path) => ['--ro-bind-try', path, path]) : [])],
    ...['--dev', '/dev', ...inMemory('/dev/shm'), '--remount-ro', '/dev']
  ]
}

/**
 * The arguments for one user: the workspace, the codex home and /tmp to write to, nothing else.
 *
 * @param fillsHome the codex home's settings are writable, too
 */
export function userArguments(directories: UserDirectories, fillsHome: boolean): string[] {
  const { workspace, codexHome, home, temporary } = directories
  const settings = PROTECTED_NAMES.flatMap((name) => ['--ro-bind', join(codexHome, name), join(INSIDE.codexHome, name)])
  return [
    ...['--bind', temporary, INSIDE.temporary],
    ...['--bind', codexHome, INSIDE.codexHome],
    ...(fillsHome ? [] : settings),
    // A shell profile in HOME would run before every command.
    ...['--ro-bind', home, INSIDE.home, ...inMemory(CACHE)],
    ...['--bind', workspace, INSIDE.workspace],
    // Last: until here it needs places to mount on.
    ...['--remount-ro', '/', '--chdir', INSIDE.workspace, '--']
  ]
}

const CACHE = join(INSIDE.home, '.cache')

/** The user's own part of what codex sees. */
export function userMounts({ workspace, codexHome, home, temporary }: UserDirectories): Mount[] {
  return [
    { at: INSIDE.workspace, host: workspace },
    { at: INSIDE.codexHome, host: codexHome },
    { at: INSIDE.home, host: home },
    { at: CACHE, host: null },
    { at: INSIDE.temporary, host: temporary }
  ]
}

/** A link of the host's root (/bin → usr/bin) stays a link. */
function readOnly(at: string, host: string): string[] {
  const isLink = at === host && (SYSTEM as readonly string[]).includes(at) && lstatSync(at).isSymbolicLink()
  return isLink ? ['--symlink', readlinkSync(at), at] : ['--ro-bind', host, at]
}

function inMemory(path: string): string[] {
  return ['--size', String(MEMORY_FILES_BYTES), '--tmpfs', path]
}

function hiding(paths: readonly string[], mounts: readonly Mount[]): string[] {
  const seen = paths.filter((path) => mounts.some(({ at, host }) => at === host && path.startsWith(`${at}/`)))
  return seen.flatMap((path) => ['--tmpfs', path, '--remount-ro', path])
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}
