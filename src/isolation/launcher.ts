import type { ChildProcessByStdio } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import type { Mount } from './mounts.ts'
import type { UserDirectories } from './user-directories.ts'

export interface LaunchSpec {
  /** The program and its arguments. */
  argv: readonly [string, ...string[]]
  /** The whole environment of the child: nothing is inherited. */
  env: Readonly<Record<string, string>>
  directories: UserDirectories
  /** What the child has as its stdout: a pipe of its own, or this socket. */
  stdout: 'pipe' | Socket
  /** codex may write its own settings: for a home that no user has yet. Default false. */
  fillsHome?: boolean
}

export type PrepareSpec = Pick<LaunchSpec, 'directories' | 'fillsHome'>

/** `stdout` is null when the child was given a socket. */
export type LaunchedProcess = ChildProcessByStdio<Writable, Readable | null, Readable>

/**
 * How a codex process is started. A launcher decides what the process can see and touch; the directories it shows to
 * codex ({@link Launcher.view}) may differ from those on the host.
 */
export interface Launcher {
  readonly name: 'none' | 'bubblewrap'
  /** Whether agents of different users are kept apart by the operating system. */
  readonly isolates: boolean
  /** Makes what {@link Launcher.launch} needs in the user's directories; to be called before each launch. */
  prepare(spec: PrepareSpec): Promise<void>
  /** Throws, or returns a child that fails, when the program cannot be started. */
  launch(spec: LaunchSpec): LaunchedProcess
  /** The user's directories as codex sees them. */
  view(directories: UserDirectories): UserDirectories
  /** Where codex finds its own binary, or a directory in DATA_DIR that it gets programs from. */
  inside(hostPath: string): string
  /** What of the host codex sees, and where. */
  mounts(directories: UserDirectories): readonly Mount[]
}
