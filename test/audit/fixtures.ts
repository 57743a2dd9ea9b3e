import { spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { AuditEntry, AuditRecord } from '../../schemas/audit.ts'
import type { AuditLog } from '../../src/audit/audit-log.ts'
import { listSegments } from '../../src/audit/segments.ts'

type ApprovalEntry = Extract<AuditEntry, { type: 'approval' }>
export type ApprovalRecord = Extract<AuditRecord, { type: 'approval' }>

export const KEY = 'a key of the tests'

export function approval(approvalId: string, over: Partial<ApprovalEntry> = {}): ApprovalEntry {
  return {
    type: 'approval',
    userId: 'alice',
    actor: { kind: 'user', id: 'alice', role: 'user', client: 'ws-1' },
    approvalId,
    kind: 'command',
    method: 'item/commandExecution/requestApproval',
    threadId: 'thread-1',
    turnId: 'turn-1',
    itemId: null,
    command: "/bin/bash -lc 'ls -la'",
    argv: ['ls', '-la'],
    cwd: '/workspace',
    verdict: { verdict: 'ask', rule: 'default', reason: 'not proven' },
    policyVersion: 'p1',
    outcome: 'accepted',
    decision: 'accept',
    latencyMs: 12,
    ...over
  }
}

/** Appends `count` approvals a0, a1 …, together. */
export async function fill(log: AuditLog, count: number): Promise<AuditRecord[]> {
  return Promise.all(Array.from({ length: count }, (_, n) => log.append(approval(`a${n}`))))
}

/** The lines of each segment, without line feeds. */
export async function readSegments(dir: string): Promise<string[][]> {
  const segments = await listSegments(dir)
  return Promise.all(
    segments.map(async ({ path }) => {
      const text = await readFile(path, 'utf8')
      return text === '' ? [] : text.replace(/\n$/, '').split('\n')
    })
  )
}

export async function readRecords(dir: string): Promise<AuditRecord[]> {
  return (await readSegments(dir)).flat().map((line) => JSON.parse(line))
}

export async function writeLines(path: string, lines: string[]): Promise<void> {
  await writeFile(path, lines.map((line) => `${line}\n`).join(''))
}

/** Runs the writer in a process of its own; `shell` runs before it (a ulimit). Lines of its stdout arrive in `lines`. */
export function startWriter(dir: string, options: { mode: string; shell?: string; tag?: string }) {
  const script = fileURLToPath(new URL('./writer.ts', import.meta.url))
  const command = `${options.shell ?? 'true'}; exec "$0" --import tsx "$@"`
  const args = ['-c', command, process.execPath, script, dir, options.mode, options.tag ?? 'w']
  // Without tap's own loaders, which tap hands on by the environment and which cost a second per start.
  const env = { PATH: process.env.PATH }
  const child = spawn('bash', args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: join(script, '../../..'), env })
  const lines: string[] = []
  const listeners = new Set<() => void>()
  let errors = ''
  child.stderr.on('data', (data) => {
    errors += data
  })
  const reader = createInterface({ input: child.stdout })
  reader.on('line', (line) => {
    lines.push(line)
    for (const listener of listeners) listener()
  })
  const ended = Promise.all([
    new Promise((resolve) => child.on('close', resolve)),
    new Promise((resolve) => reader.on('close', resolve))
  ])
  return {
    lines,
    ended,
    errors: () => errors,
    kill: () => child.kill('SIGKILL'),
    /** Resolves once so many lines have come, or the process has ended. */
    until: async (count: number) => {
      const enough = new Promise<void>((resolve) => {
        const check = () => {
          if (lines.length >= count) resolve()
        }
        listeners.add(check)
        check()
      })
      await Promise.race([enough, ended])
    }
  }
}
