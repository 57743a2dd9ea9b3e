import type { ChildProcessByStdio } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import type { UserDirectories } from './user-directories.ts'

export interface LaunchSpec {
  /** The program and its arguments. */
  argv: readonly [string, ...string[]]
  /** The whole environment of the child: nothing is inherited. */
  env: Readonly<Record<string, string>>
  directories: UserDirectories
  /** What the child has as its stdout: a pipe of its own, or this socket. */
  stdout: 'pipe' | Socket
}

/** `stdout` is null when the child was given a socket. */
export type LaunchedProcess = ChildProcessByStdio<Writable, Readable | null, Readable>

/**
 * How a codex process is started. A launcher decides what the process can see and touch; the directories it shows to
 * codex ({@link Launcher.view}) may differ from those on the host.
 */
export interface Launcher {
  readonly name: 'none'
  /** Whether agents of different users are kept apart by the operating system. */
  readonly isolates: boolean
  launch(spec: LaunchSpec): LaunchedProcess
  /** The user's directories as codex sees them. */
  view(directories: UserDirectories): UserDirectories
}
