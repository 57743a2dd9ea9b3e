import fp from 'fastify-plugin'
import type { Settlement } from '../src/approvals/ledger-entry.ts'
import { settlementEntry } from '../src/approvals/settlement-entry.ts'
import type { JournalBounds } from '../src/journal/journal.ts'
import { MemoryJournal } from '../src/journal/memory-journal.ts'
import { type SessionsOptions as EngineOptions, Sessions } from '../src/session/sessions.ts'

export interface SessionsOptions extends Pick<EngineOptions, 'approvalMode' | 'requestTimeoutMs' | 'idleTimeoutMs'> {
  journal: JournalBounds
}

declare module 'fastify' {
  interface FastifyInstance {
    sessions: Sessions
  }
}

/** The users' live sessions: wires process pool, policy, audit log and store together. */
export default fp<SessionsOptions>(
  async function sessionsPlugin(fastify, { journal, ...options }) {
    const { audit, policy, pool, store, webhooks } = fastify
    const sessions = new Sessions({
      ...options,
      pool,
      store,
      log: fastify.log,
      forgetAfterMs: journal.maxAgeMs,
      createJournal: () => new MemoryJournal(journal),
      decide: (question, { userId, view }) => policy.decide(question, userId, view.workspace),
      record: async (settlement: Settlement, session) => {
        await audit.append(settlementEntry(settlement, session.userId))
      },
      onApproval: (event, { userId }) => webhooks.onApproval(userId, event)
    })
    fastify.decorate('sessions', sessions)
    // preClose, not onClose: open sockets would keep the server from closing, and clients want to hear why.
    fastify.addHook('preClose', () => sessions.close())
  },
  { name: 'sessions', dependencies: ['audit', 'policy', 'pool', 'store', 'webhooks', 'websocket'] }
)
