import type { ApprovalResolved } from '../../schemas/approvals.ts'
import type { ApprovalEvent } from '../../schemas/server-messages.ts'
import type { PolicyVerdict, Settlement, StoredApproval } from '../approvals/ledger-entry.ts'
import type { ApprovalMode } from '../codex/method-guards.ts'
import type { CodexProcess, ProcessHandlers } from '../codex/process.ts'
import type { Question } from '../codex/server-requests.ts'
import type { Launcher } from '../isolation/launcher.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'
import type { SessionJournal } from '../journal/session-journal.ts'
import type { SessionState, StoredSession } from './session-state.ts'

/** Whose session it is, and its directories: on the host, and as codex sees them. */
export interface SessionOwner {
  readonly userId: string
  readonly view: UserDirectories
  readonly directories: UserDirectories
}

export interface SessionLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface SessionOptions {
  userId: string
  sessionId: string
  launcher: Launcher
  /** See ProcessPool.start. */
  startProcess(userId: string, handlers: ProcessHandlers, signal: AbortSignal): Promise<CodexProcess>
  directories: UserDirectories
  journal: SessionJournal
  /** What lasts of the session, and what an earlier gateway left of it; see Session.recover. */
  state: SessionState
  stored: StoredSession
  approvalMode: ApprovalMode
  requestTimeoutMs: number
  log: SessionLog
  decide(question: Question, session: SessionOwner): Promise<PolicyVerdict>
  record(settlement: Settlement, session: SessionOwner): Promise<void>
  /** How this approval ended, if that is on record. */
  recorded(approval: StoredApproval, session: SessionOwner): Promise<ApprovalResolved | undefined>
  /** Hears what the clients hear of approvals. Must not throw. */
  onApproval(event: ApprovalEvent, session: SessionOwner): void
}
