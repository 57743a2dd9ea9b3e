import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { AuditEntry } from '../schemas/audit.ts'
import { AuditLog } from '../src/audit/audit-log.ts'
import { redact } from '../src/audit/redact.ts'
import { verifyAudit } from '../src/audit/verify.ts'

// In the working directory: a temporary directory may be memory, where a sync costs nothing.
const root = await mkdtemp(join(process.cwd(), '.cloud-codex-bench-'))
const key = 'bench-key'
const USERS = 200
const COMMAND = "/bin/bash -lc 'git log --oneline -n 20 && grep -rn TODO src | head'"
const SUSTAINED_MS = 5_000
const BULK_RECORDS = Number(process.env.BULK ?? 100_000)

function entry(n: number): AuditEntry {
  return {
    type: 'approval',
    userId: `user-${n % USERS}`,
    actor: { kind: 'policy', rule: 'read-only' },
    approvalId: `appr_${n}`,
    kind: 'command',
    method: 'item/commandExecution/requestApproval',
    threadId: `0199a213-81c0-7800-8aa1-${String(n % 1000).padStart(12, '0')}`,
    turnId: `turn-${n}`,
    itemId: `call-${n}`,
    command: COMMAND,
    argv: ['git', 'log', '--oneline', '-n', '20'],
    cwd: '/workspace/project',
    verdict: { verdict: 'accept', rule: 'read-only', reason: 'reads only' },
    policyVersion: '3f2a9c1d',
    outcome: n % 50 === 0 ? 'expired' : 'accepted',
    decision: 'accept',
    latencyMs: 0.1
  }
}

const at = (sorted: number[], share: number) => (sorted[Math.floor((sorted.length - 1) * share)] as number).toFixed(2)

function latencies(label: string, values: number[]): void {
  const sorted = values.sort((a, b) => a - b)
  console.log(`${label}: p50 ${at(sorted, 0.5)} ms, p99 ${at(sorted, 0.99)} ms, max ${at(sorted, 1)} ms`)
}

async function sustained(log: AuditLog, inFlight: number): Promise<void> {
  const waits: number[] = []
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const cpu = process.cpuUsage()
  const end = performance.now() + SUSTAINED_MS
  const worker = async () => {
    while (performance.now() < end) {
      const start = performance.now()
      await log.append(entry(waits.length))
      waits.push(performance.now() - start)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  const { user, system } = process.cpuUsage(cpu)
  const rate = Math.round(waits.length / (SUSTAINED_MS / 1000))
  const micros = Math.round((user + system) / waits.length)
  console.log(
    `${inFlight} in flight: ${rate} durable records/s, ${micros} µs CPU each, loop p99 ${(delay.percentile(99) / 1e6).toFixed(2)} ms`
  )
  latencies(`  append`, waits)
}

try {
  const log = await AuditLog.open(join(root, 'a'), { key })
  const single: number[] = []
  for (let n = 0; n < 2_000; n++) {
    const start = performance.now()
    await log.append(entry(n))
    single.push(performance.now() - start)
  }
  latencies('one at a time', single.slice(200))
  for (const inFlight of [8, 64, 512]) await sustained(log, inFlight)
  await log.close()

  const big = join(root, 'b')
  let bulk = await AuditLog.open(big, { key })
  for (let n = 0; n < BULK_RECORDS; n += 5_000) {
    await Promise.all(Array.from({ length: 5_000 }, (_, i) => bulk.append(entry(n + i))))
  }
  let start = performance.now()
  await bulk.query({ limit: 1 })
  console.log(
    `${BULK_RECORDS} records: index behind by ${(performance.now() - start).toFixed(0)} ms after the last append`
  )
  for (const query of [
    {},
    { userId: 'user-7' },
    { userId: 'user-50', outcome: 'expired' as const },
    { type: 'note' as const }
  ]) {
    const times: number[] = []
    for (let n = 0; n < 50; n++) {
      start = performance.now()
      await bulk.query({ ...query, limit: 50 })
      times.push(performance.now() - start)
    }
    latencies(`  page of 50, ${JSON.stringify(query)}`, times)
  }
  await bulk.close()
  start = performance.now()
  bulk = await AuditLog.open(big, { key })
  console.log(`open again: ${(performance.now() - start).toFixed(0)} ms`)
  await bulk.close()
  for (const name of ['index.lmdb', 'index.lmdb-lock']) await rm(join(big, name))
  bulk = await AuditLog.open(big, { key })
  start = performance.now()
  await bulk.query({ limit: 1 })
  console.log(`index built anew: ${Math.round(BULK_RECORDS / ((performance.now() - start) / 1000))} records/s`)
  await bulk.close()
  start = performance.now()
  const report = await verifyAudit(big, { key })
  console.log(`verify: ok ${report.ok}, ${Math.round(report.records / ((performance.now() - start) / 1000))} records/s`)
  start = performance.now()
  for (let n = 0; n < 10_000; n++) redact(COMMAND)
  console.log(`redact: ${((performance.now() - start) / 10).toFixed(1)} µs per command`)
} finally {
  await rm(root, { recursive: true, force: true })
}
