import type { AuditReport } from './verify.ts'

/** The report of {@link verifyAudit} as lines of plain text for a terminal. */
export function formatReport(report: AuditReport): string {
  const { ok, records, head, findings, omittedFindings, notes } = report
  const count = findings.length + omittedFindings
  const verdict = ok ? 'OK' : `NOT OK: ${count} ${count === 1 ? 'finding' : 'findings'}`
  const lines = [`${verdict}. ${records} sound records; head ${head ? `${head.seq} ${head.hash}` : 'none'}`]
  for (const { file, line, seq, kind, message } of findings) {
    lines.push(`${file}:${line} record ${seq} ${kind}: ${message}`)
  }
  if (omittedFindings > 0) lines.push(`… and ${omittedFindings} more`)
  for (const text of notes) lines.push(`note: ${text}`)
  return `${lines.join('\n')}\n`
}
