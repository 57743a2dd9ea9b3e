import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { AuditLog } from '../src/audit/audit-log.ts'
import { FileHeadStore } from '../src/audit/head-store.ts'
import { DocumentHeadStore, MirroredHeadStore } from '../src/audit/mirrored-head-store.ts'
import { type AuditReport, verifyAudit } from '../src/audit/verify.ts'
import { userKey } from '../src/isolation/user-directories.ts'

export interface AuditOptions {
  dataDir: string
  /** Signs checkpoints; undefined: none are made. */
  key: string | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    audit: AuditLog
    /** Reads the whole log and names every record that is changed, missing or out of order. */
    verifyAudit(): Promise<AuditReport>
    /** preHandler hook: whoever acts in somebody else's session is on record before anything happens. */
    recordAccess(request: FastifyRequest): Promise<void>
  }
}

/** The audit log of this gateway: every decision is on disk before codex hears it. */
export default fp<AuditOptions>(
  async function auditPlugin(fastify, { dataDir, key }) {
    const directory = join(dataDir, 'audit')
    const headStore = new MirroredHeadStore([
      new FileHeadStore(directory),
      new DocumentHeadStore(fastify.documents, userKey(directory))
    ])
    const audit = await AuditLog.open(directory, {
      key,
      headStore,
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
    fastify.decorate('verifyAudit', async () => verifyAudit(directory, { key, head: await headStore.get() }))
    fastify.addHook('onClose', () => audit.close())
  },
  { name: 'audit', dependencies: ['auth', 'store'] }
)
