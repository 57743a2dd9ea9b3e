import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
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
    /** preHandler hook: whoever acts in somebody else's session is on record before anything happens. */
    recordAccess(request: FastifyRequest): Promise<void>
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
    fastify.decorate('recordAccess', async ({ identity, method, routeOptions }: FastifyRequest) => {
      const { userId, actorId, roles } = identity
      if (actorId === userId) return
      const role = roles.find((name) => name !== 'viewer' && name !== 'user')
      const actor = { kind: 'user' as const, id: actorId, ...(role === undefined ? {} : { role }) }
      await audit.append({ type: 'access', userId, actor, action: `${method} ${routeOptions.url}` })
    })
    fastify.addHook('onClose', () => audit.close())
  },
  { name: 'audit', dependencies: ['auth'] }
)
