import { readFileSync } from 'node:fs'

export interface ProcessMemory {
  /** All resident pages, those of mapped files included. */
  rssBytes: number
  /** Those that only this process has: heap, buffers, stacks. */
  anonBytes: number
}

/** The memory of a running process, as the kernel accounts for it. */
export function readMemory(pid: number): ProcessMemory {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
  return { rssBytes: bytes('VmRSS'), anonBytes: bytes('RssAnon') }
}

/** Watches a process's memory; `stop` returns the most that was seen. */
export function watchMemory(pid: number, intervalMs = 20): { stop(): ProcessMemory } {
  const most = readMemory(pid)
  const look = () => {
    const now = readMemory(pid)
    most.rssBytes = Math.max(most.rssBytes, now.rssBytes)
    most.anonBytes = Math.max(most.anonBytes, now.anonBytes)
  }
  const timer = setInterval(look, intervalMs)
  return {
    stop() {
      clearInterval(timer)
      look()
      return most
    }
  }
}
