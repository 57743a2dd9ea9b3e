#!/usr/bin/env node
import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { formatReport } from './src/audit/report.ts'
import { verifyAudit } from './src/audit/verify.ts'

const USAGE = `Usage:
  cloud-codex serve                       start the gateway; configured by environment variables
  cloud-codex audit verify [PATH]         check an audit log: its directory, or one file in it
      default DATA_DIR/audit; with AUDIT_KEY set the signed checkpoints are checked too
  cloud-codex --help                      this text
`

const EXIT_FINDINGS = 1
const EXIT_USAGE = 2

const { positionals, values } = parseArgs({ allowPositionals: true, strict: false })
const [command, ...rest] = positionals

if (values.help) process.stdout.write(USAGE)
else if (command === 'serve' && rest.length === 0) await import('./server.ts')
else if (command === 'audit' && rest[0] === 'verify' && rest.length <= 2) await verify(rest[1] ?? defaultAuditPath())
else {
  process.stderr.write(USAGE)
  process.exitCode = EXIT_USAGE
}

function defaultAuditPath(): string {
  return join(process.env.DATA_DIR || '.cloud-codex', 'audit')
}

/** Prints what is wrong with the log and where; exit code 0 when nothing is. */
async function verify(path: string): Promise<void> {
  const absolute = resolve(path)
  const found = await stat(absolute).catch(() => undefined)
  if (!found) {
    process.stderr.write(`cloud-codex: there is no "${path}"; give the audit directory (DATA_DIR/audit)\n`)
    process.exitCode = EXIT_USAGE
    return
  }
  // A log is one chain over all its files: a single file cannot show what is missing before or after it.
  const directory = found.isDirectory() ? absolute : dirname(absolute)
  const report = await verifyAudit(directory, { key: process.env.AUDIT_KEY })
  process.stdout.write(formatReport(report))
  if (!report.ok) process.exitCode = EXIT_FINDINGS
}
