import { spawn } from 'node:child_process'
import type { Launcher } from './launcher.ts'

/** Starts codex straight on the host: no isolation between users beyond file modes. */
export const noneLauncher: Launcher = {
  name: 'none',
  isolates: false,
  prepare: async () => {},
  launch({ argv: [program, ...args], env, directories, stdout }) {
    // A process group of its own, so that a signal for it reaches the children that stayed in it.
    const options = { cwd: directories.workspace, env, detached: true }
    return stdout === 'pipe'
      ? spawn(program, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
      : spawn(program, args, { ...options, stdio: ['pipe', stdout, 'pipe'] })
  },
  view: (directories) => directories,
  inside: (hostPath) => hostPath,
  mounts: () => [{ at: '/', host: '/' }]
}
