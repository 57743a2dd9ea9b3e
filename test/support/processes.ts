import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { PROCESS_MARK } from '../../src/isolation/process-tree.ts'
import { userKey } from '../../src/isolation/user-directories.ts'

export interface RunningProcess {
  pid: number
  parentPid: number
  /** Program and arguments, separated by spaces. */
  command: string
  environment: Record<string, string>
}

/** The codex processes of the gateway on this data directory and what they started: whatever carries its mark. */
export async function processesOf(dataDir: string): Promise<RunningProcess[]> {
  const mark = `${userKey(dataDir)}.`
  const processes = await Promise.all((await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(readProcess))
  return processes.flatMap((found) => (found?.environment[PROCESS_MARK]?.startsWith(mark) ? found : []))
}

/** The users' codex processes alone; the one that fills the template home at boot is nobody's. */
export async function codexProcessesOf(dataDir: string): Promise<RunningProcess[]> {
  const found = (await processesOf(dataDir)).filter(
    ({ command, environment }) => / app-server$/.test(command) && environment.CODEX_HOME?.includes('/homes/')
  )
  // A child that codex has forked and that has not become its command yet looks like codex.
  return found.filter(({ parentPid }) => !found.some(({ pid }) => pid === parentPid))
}

async function readProcess(name: string): Promise<RunningProcess | undefined> {
  try {
    const stat = await readFile(`/proc/${name}/stat`, 'latin1')
    const [state, parentPid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (state === 'Z') return undefined
    const command = (await readFile(`/proc/${name}/cmdline`, 'utf8')).split('\0').join(' ').trim()
    const entries = (await readFile(`/proc/${name}/environ`, 'utf8')).split('\0').filter((entry) => entry !== '')
    const environment = Object.fromEntries(
      entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)])
    )
    return { pid: Number(name), parentPid: Number(parentPid), command, environment }
  } catch {
    // It ended while it was read.
    return undefined
  }
}

/** Polls until `read` gives something truthy and returns it; rejects after `timeoutMs` with what it gave last. */
export async function eventually<T>(what: string, timeoutMs: number, read: () => Promise<T> | T): Promise<T> {
  const endMs = Date.now() + timeoutMs
  for (;;) {
    const value = await read()
    if (value) return value
    if (Date.now() > endMs) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await delay(25)
  }
}

/** Resolves with the milliseconds it took until nothing of that data directory runs; rejects with what is left. */
export async function untilGone(dataDir: string, timeoutMs: number): Promise<number> {
  const startMs = Date.now()
  for (;;) {
    const left = await processesOf(dataDir)
    if (left.length === 0) return Date.now() - startMs
    if (Date.now() - startMs > timeoutMs) {
      throw new Error(`still running after ${timeoutMs} ms: ${left.map(({ pid, command }) => `${pid} ${command}`)}`)
    }
    await delay(25)
  }
}

/** Sends a signal to every codex process of that data directory, and returns how many there were; never none. */
export async function signalCodex(dataDir: string, signal: NodeJS.Signals): Promise<number> {
  const found = await codexProcessesOf(dataDir)
  if (found.length === 0) throw new Error('no codex process runs')
  for (const { pid } of found) process.kill(pid, signal)
  return found.length
}
