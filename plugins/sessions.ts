import fp from 'fastify-plugin'
import type { Settlement } from '../src/approvals/ledger-entry.ts'
import { settlementEntry } from '../src/approvals/settlement-entry.ts'
import { resolutionOnRecord } from '../src/approvals/settlement-record.ts'
import { availableMemoryBytes } from '../src/codex/memory.ts'
import { SessionJournal } from '../src/journal/session-journal.ts'
import { type SessionsOptions as EngineOptions, Sessions } from '../src/session/sessions.ts'

export type SessionsOptions = Pick<
  EngineOptions,
  'approvalMode' | 'requestTimeoutMs' | 'idleTimeoutMs' | 'memoryReserveBytes'
>

declare module 'fastify' {
  interface FastifyInstance {
    sessions: Sessions
  }
}

/** A session with nobody attached and no process is closed after this long; all of it is in the store. */
const FORGET_AFTER_MS = 5 * 60 * 1000

/** The users' live sessions: wires process pool, policy, audit log and store together. */
export default fp<SessionsOptions>(
  async function sessionsPlugin(fastify, options) {
    const { audit, documents, journalWriter: writer, policy, pool, store, webhooks } = fastify
    const sessions = new Sessions({
      ...options,
      pool,
      store,
      documents,
      log: fastify.log,
      availableMemoryBytes,
      forgetAfterMs: FORGET_AFTER_MS,
      openJournal: (userId, onPressure) => SessionJournal.open({ userId, writer, onPressure }),
      decide: (question, session) => policy.decide(question, session),
      record: async (settlement: Settlement, session) => {
        await audit.append(settlementEntry(settlement, session.userId))
      },
      recorded: (approval, { userId }) => resolutionOnRecord(audit, approval, userId),
      onApproval: (event, { userId }) => webhooks.onApproval(userId, event)
    })
    fastify.decorate('sessions', sessions)
    // Not awaited: there may be many, and a user who comes meanwhile waits for his own only.
    fastify.addHook('onReady', async () => void sessions.recover())
    // preClose, not onClose: open sockets would keep the server from closing, and clients want to hear why.
    fastify.addHook('preClose', () => sessions.close())
  },
  { name: 'sessions', dependencies: ['audit', 'journal', 'policy', 'pool', 'store', 'webhooks', 'websocket'] }
)
