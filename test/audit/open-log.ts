import type { Test } from 'tap'
import { AuditLog } from '../../src/audit/audit-log.ts'
import type { AuditLogOptions } from '../../src/audit/audit-log-options.ts'

/** A log of the test's own, closed at its end. */
export async function openLog(t: Test, options: AuditLogOptions = {}): Promise<{ dir: string; log: AuditLog }> {
  let log: AuditLog | undefined
  // Before testdir: tap removes a directory ahead of what is registered after it.
  t.teardown(() => log?.close())
  const dir = t.testdir()
  log = await AuditLog.open(dir, options)
  return { dir, log }
}
