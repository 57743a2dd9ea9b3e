import { spawn } from 'node:child_process'
import { PROCESS_MARK } from './process-tree.ts'

/**
 * Waits for the end of its stdin, then sends SIGKILL to whatever carries the mark, until nothing new turns up. In sh
 * and grep, because a second Node would cost 40 MB for every gateway. The mark stands in no environment of its own.
 */
const SCRIPT = `
cat >/dev/null
for round in 1 2 3 4 5; do
  found=$(grep -lsaF -- "$1" /proc/[0-9]*/environ)
  [ -n "$found" ] || exit 0
  for file in $found; do
    pid=\${file#/proc/}
    kill -9 "\${pid%/environ}" 2>/dev/null
  done
done`

/**
 * Starts a process that outlives the gateway for a moment: when the gateway dies, even by SIGKILL, it ends every
 * process whose mark starts with `mark`. codex itself ends when its stdin does, but not a daemon that one of its commands
 * started, and not a codex that is stopped or stuck. Returns what ends the guard; Linux only.
 */
export function startOrphanGuard(mark: string, onLost: (reason: string) => void): () => void {
  if (process.platform !== 'linux') return () => {}
  // A session of its own: a signal to the gateway's group, as Ctrl-C sends it, must not take the guard along.
  const guard = spawn('/bin/sh', ['-c', SCRIPT, 'orphan-guard', `${PROCESS_MARK}=${mark}`], {
    detached: true,
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['pipe', 'ignore', 'ignore']
  })
  let isEnding = false
  guard.on('error', (error) => onLost(error.message))
  guard.on('exit', (code, signal) => {
    if (!isEnding) onLost(`it ended (${signal ?? `code ${code}`})`)
  })
  guard.stdin.on('error', () => {})
  return () => {
    isEnding = true
    guard.stdin.end()
  }
}
