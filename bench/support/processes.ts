import { type ChildProcess, type ChildProcessByStdio, fork, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

const READY_TIMEOUT_MS = 30_000
const RETRY_MS = 20

const children = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

function keep<C extends ChildProcess>(child: C): C {
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

/** A fresh directory that is removed at the end. Not under /tmp: codex refuses to work fully there, and it may be memory. */
export function scratchDirectory(): string {
  const directory = resolve('.cloud-codex', 'bench', randomBytes(6).toString('hex'))
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  process.once('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }))
  return directory
}

/** Starts a module of this folder's tree in a process of its own, with an IPC channel. It dies with the benchmark. */
export function forkModule(
  module: string,
  args: readonly string[],
  env: Record<string, string> = {},
  execArgv: readonly string[] = []
): ChildProcess {
  return keep(
    fork(new URL(module, import.meta.url), args, {
      env: { PATH: process.env.PATH, ...env },
      execArgv: [...process.execArgv, ...execArgv],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc']
    })
  )
}

/** Starts a program whose output nobody reads. It dies with the benchmark. */
export function startProgram(
  program: string,
  args: readonly string[],
  options: { cwd: string; env: Record<string, string> }
): ChildProcess {
  return keep(spawn(program, args, { ...options, stdio: 'ignore' }))
}

/** Starts a program that is spoken to over its stdin and stdout. It dies with the benchmark. */
export function startPiped(program: string, args: readonly string[]): ChildProcessByStdio<Writable, Readable, null> {
  return keep(spawn(program, args, { env: { PATH: process.env.PATH }, stdio: ['pipe', 'pipe', 'inherit'] }))
}

/** The next message of a forked module. Rejects when it exits instead. */
export async function nextMessage<T>(child: ChildProcess): Promise<T> {
  const listening = new AbortController()
  const { signal } = listening
  const gone = once(child, 'exit', { signal }).then(([code]) => {
    throw new Error(`a benchmark process exited with code ${code}`)
  })
  try {
    const [message] = (await Promise.race([once(child, 'message', { signal }), gone])) as [T]
    return message
  } finally {
    gone.catch(() => {})
    listening.abort()
  }
}

/** SIGTERM, and SIGKILL when that is not enough. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await Promise.race([exited, delay(6_000).then(() => child.kill('SIGKILL'))])
}

/** A loopback port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Resolves when somebody listens on this loopback port. */
export async function listening(port: number): Promise<void> {
  const endMs = Date.now() + READY_TIMEOUT_MS
  while (Date.now() < endMs) {
    const socket = connect(port, '127.0.0.1')
    const isUp = await once(socket, 'connect').then(
      () => true,
      () => false
    )
    socket.destroy()
    if (isUp) return
    await delay(RETRY_MS)
  }
  throw new Error(`nothing listens on port ${port} after ${READY_TIMEOUT_MS} ms`)
}

/** CPU time of a process so far, all its threads, in ms (the kernel counts in steps of 10). Linux only. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/** Resident memory of a process, in KiB. Linux only. */
export function rssKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1])
}

/** The codex processes that this process started. Linux only. */
export function codexChildrenOf(pid: number): number[] {
  const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number)
  return pids.filter((child) => {
    try {
      return readFileSync(`/proc/${child}/comm`, 'latin1').trim() === 'codex'
    } catch {
      // It ended between the two looks.
      return false
    }
  })
}

/** The one codex process that this process started. Linux only. */
export function codexChildOf(pid: number): number {
  const [codex] = codexChildrenOf(pid)
  if (codex === undefined) throw new Error(`process ${pid} has no codex child`)
  return codex
}
