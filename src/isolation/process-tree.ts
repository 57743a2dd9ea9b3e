import { readdir, readFile } from 'node:fs/promises'

/** Every process we start, and what it starts, carries this variable; its value names the owner. */
export const PROCESS_MARK = 'CLOUD_CODEX_PROCESS'

interface ProcessInfo {
  pid: number
  parent: number
}

/**
 * Sends SIGKILL to every process that carries a mark starting with `mark` in its environment, and to all descendants
 * of those. Finds what process groups miss: daemons that were re-parented, shells in sessions of their own. Returns
 * how many were signalled. Linux only (reads /proc); elsewhere it finds nothing.
 */
export async function killMarked(mark: string): Promise<number> {
  const killed = new Set<number>()
  // A killed parent's child may have forked between the scan and the signal: scan until nothing new turns up.
  for (let round = 0; round < 5; round++) {
    const found = (await findMarked(mark)).filter((pid) => !killed.has(pid))
    if (found.length === 0) break
    for (const pid of found) {
      killed.add(pid)
      tryKill(pid)
    }
  }
  return killed.size
}

async function findMarked(mark: string): Promise<number[]> {
  const needle = `${PROCESS_MARK}=${mark}`
  const processes = await listProcesses()
  const marked = new Set<number>()
  await Promise.all(
    processes.map(async ({ pid }) => {
      const environment = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '')
      if (environment.split('\0').some((entry) => entry.startsWith(needle))) marked.add(pid)
    })
  )
  marked.delete(process.pid)
  for (let grown = true; grown; ) {
    grown = false
    for (const { pid, parent } of processes) {
      if (marked.has(parent) && !marked.has(pid)) {
        marked.add(pid)
        grown = true
      }
    }
  }
  return [...marked]
}

async function listProcesses(): Promise<ProcessInfo[]> {
  const entries = await readdir('/proc').catch(() => [])
  const stats = entries
    .filter((name) => /^\d+$/.test(name))
    .map(async (name) => {
      const stat = await readFile(`/proc/${name}/stat`, 'latin1').catch(() => '')
      // The command name is in parentheses and may hold spaces: fields are counted after its end. A zombie is gone.
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return state === undefined || parent === undefined || state === 'Z'
        ? undefined
        : { pid: Number(name), parent: Number(parent) }
    })
  return (await Promise.all(stats)).filter((info) => info !== undefined)
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself in the meantime.
  }
}
