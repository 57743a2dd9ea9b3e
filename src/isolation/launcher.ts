import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import type { UserDirectories } from './user-directories.ts'

export interface LaunchSpec {
  /** The program and its arguments. */
  argv: readonly [string, ...string[]]
  /** The whole environment of the child: nothing is inherited. */
  env: Readonly<Record<string, string>>
  directories: UserDirectories
}

/**
 * How a codex process is started. A launcher decides what the process can see and touch; the directories it shows to
 * codex ({@link Launcher.view}) may differ from those on the host.
 */
export interface Launcher {
  readonly name: 'none'
  /** Whether agents of different users are kept apart by the operating system. */
  readonly isolates: boolean
  launch(spec: LaunchSpec): ChildProcessWithoutNullStreams
  /** The user's directories as codex sees them. */
  view(directories: UserDirectories): UserDirectories
}
