import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const CGROUP_ROOT = '/sys/fs/cgroup'

/** Reads a file as text; rejects when it is not there. */
export type ReadText = (path: string) => Promise<string>

const readText: ReadText = (path) => readFile(path, 'utf8')

/**
 * Bytes that programs can still get before somebody has to give some back: of the machine (MemAvailable) or of the
 * tightest cgroup v2 that this process is in, whichever is less. What a cgroup has only cached of files counts as
 * available, as it does for the machine. Infinity where neither can be read.
 */
export async function availableMemoryBytes(read: ReadText = readText): Promise<number> {
  const [machine, group] = await Promise.all([availableOfMachine(read), availableOfCgroups(read)])
  return Math.min(machine, group)
}

async function availableOfMachine(read: ReadText): Promise<number> {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(await read('/proc/meminfo').catch(() => ''))?.[1]
  return kib === undefined ? Number.POSITIVE_INFINITY : Number(kib) * 1024
}

/** A limit of any group above counts as well. */
async function availableOfCgroups(read: ReadText): Promise<number> {
  const path = /^0::(\/.*)$/m.exec(await read('/proc/self/cgroup').catch(() => ''))?.[1]
  if (path === undefined) return Number.POSITIVE_INFINITY
  const groups: string[] = []
  for (let group = path; ; group = dirname(group)) {
    groups.push(join(CGROUP_ROOT, group))
    if (group === '/') break
  }
  return Math.min(...(await Promise.all(groups.map((group) => availableOfCgroup(group, read)))))
}

async function availableOfCgroup(group: string, read: ReadText): Promise<number> {
  try {
    const limitBytes = Number(await read(join(group, 'memory.max')))
    // "max": no limit here.
    if (!Number.isFinite(limitBytes)) return Number.POSITIVE_INFINITY
    const [current, stat] = await Promise.all([
      read(join(group, 'memory.current')),
      read(join(group, 'memory.stat')).catch(() => '')
    ])
    const cachedBytes = Number(/^inactive_file (\d+)$/m.exec(stat)?.[1] ?? 0)
    return Math.max(0, limitBytes - Number(current) + cachedBytes)
  } catch {
    // No such group as seen from here, or one without the memory controller.
    return Number.POSITIVE_INFINITY
  }
}
