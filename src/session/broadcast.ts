import type { Approval } from '../../schemas/approvals.ts'
import type { ThreadSummary } from '../../schemas/server-messages.ts'
import type { Journal, JournalEntry } from '../journal/journal.ts'
import { type ClientSink, type JournalPosition, SessionClient } from './client.ts'

/** What a client that cannot have all events needs to know instead. */
export interface SessionPicture {
  threads: ThreadSummary[]
  pendingApprovals: Approval[]
}

/** Puts a session's events in its journal and hands them to its clients, batched per turn of the event loop. */
export class Broadcast {
  readonly #journal: Journal
  readonly #picture: () => SessionPicture
  readonly #clients = new Set<SessionClient>()
  #batch: JournalEntry[] = []
  #flush: NodeJS.Immediate | undefined

  constructor(journal: Journal, picture: () => SessionPicture) {
    this.#journal = journal
    this.#picture = picture
  }

  get clientCount(): number {
    return this.#clients.size
  }

  /** Adds a client: session/ready, then what follows `from` (nothing without it), then live events. */
  attach(sink: ClientSink, ids: { userId: string; sessionId: string }, from?: JournalPosition): SessionClient {
    // What is batched has a number already: a client that starts after it must not get it.
    this.#flushBatch()
    const client = new SessionClient(sink, this.#journal, (first, last) => this.#describeGap(first, last))
    const { epoch, lastSeq } = this.#journal
    const { pendingApprovals } = this.#picture()
    client.sendDirect(encode('session/ready', { ...ids, epoch, seq: lastSeq, pendingApprovals }))
    this.#clients.add(client)
    if (from) client.resume(from)
    return client
  }

  detach(client: SessionClient): void {
    client.detach()
    this.#clients.delete(client)
  }

  /** @param payload JSON text; goes into the journal as it is. Call {@link scheduleFlush} after the last of a batch. */
  append(type: string, payload: Buffer): void {
    this.#batch.push(this.#journal.append(type, payload))
  }

  emit(type: string, payload: unknown): void {
    this.append(type, Buffer.from(JSON.stringify(payload)))
    this.scheduleFlush()
  }

  /** After the microtasks of this turn of the loop, so that a response goes out before the events that follow it. */
  scheduleFlush(): void {
    if (this.#batch.length > 0) this.#flush ??= setImmediate(() => this.#flushBatch())
  }

  /** Hands out what is left and closes every client. */
  close(code: number, reason: string): void {
    this.#flushBatch()
    for (const client of this.#clients) client.close(code, reason)
    this.#clients.clear()
  }

  #flushBatch(): void {
    clearImmediate(this.#flush)
    this.#flush = undefined
    const entries = this.#batch
    if (entries.length === 0) return
    this.#batch = []
    for (const client of this.#clients) client.deliver(entries)
  }

  #describeGap(from: number, to: number): Buffer[] {
    const { epoch } = this.#journal
    return [
      encode('session/gap', { epoch, from, to }),
      encode('session/snapshot', { epoch, seq: to, ...this.#picture() })
    ]
  }
}

function encode(type: string, payload: unknown): Buffer {
  return Buffer.from(JSON.stringify({ type, payload }))
}
