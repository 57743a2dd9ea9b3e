import { join } from 'node:path'
import fp from 'fastify-plugin'
import { AuditLog } from '../src/audit/audit-log.ts'

export interface AuditOptions {
  dataDir: string
  /** Signs checkpoints; undefined: none are made. */
  key: string | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    audit: AuditLog
  }
}

/** The audit log of this gateway: every decision is on disk before codex hears it. */
export default fp<AuditOptions>(
  async function auditPlugin(fastify, { dataDir, key }) {
    const audit = await AuditLog.open(join(dataDir, 'audit'), {
      key,
      onWarning: (message, err) => fastify.log.warn({ err }, message)
    })
    fastify.decorate('audit', audit)
    fastify.addHook('onClose', () => audit.close())
  },
  { name: 'audit' }
)
