import { spawn } from 'node:child_process'
import type { Launcher } from './launcher.ts'

/** Starts codex straight on the host: no isolation between users beyond file modes. */
export const noneLauncher: Launcher = {
  name: 'none',
  isolates: false,
  launch({ argv: [program, ...args], env, directories }) {
    // A process group of its own, so that a signal for it reaches the children that stayed in it.
    return spawn(program, args, { cwd: directories.workspace, env, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  },
  view: (directories) => directories
}
