import type { Approval } from '../../schemas/approvals.ts'
import type { ThreadSummary } from '../../schemas/server-messages.ts'
import { encodeFrame } from '../journal/frames.ts'
import type { SessionJournal } from '../journal/session-journal.ts'
import { type ClientSink, type DescribeGap, type ResumeFrom, SessionClient } from './client.ts'

/** What a client that cannot have all events needs to know instead. */
export interface SessionPicture {
  threads: ThreadSummary[]
  pendingApprovals: Approval[]
}

/** Puts a session's events in its journal and hands them to its clients, batched per turn of the event loop. */
export class Broadcast {
  readonly #journal: SessionJournal
  readonly #picture: () => SessionPicture
  readonly #clients = new Set<SessionClient>()
  readonly #flush = () => this.#handOut()
  /** One for all clients: a function for each would live as long as the client. */
  readonly #gapFrames: DescribeGap = (from, to) => this.#describeGap(from, to)
  #immediate: NodeJS.Immediate | undefined

  constructor(journal: SessionJournal, picture: () => SessionPicture) {
    this.#journal = journal
    this.#picture = picture
    journal.watchClients(() => this.#haveSentAll())
  }

  get clientCount(): number {
    return this.#clients.size
  }

  /** Adds a client: session/ready, then what follows `from` (nothing without it), then live events. */
  attach(sink: ClientSink, ids: { userId: string; sessionId: string }, from?: ResumeFrom): SessionClient {
    // What is in the journal has a number already: a client that starts after it must not get it.
    this.#handOut()
    const client = new SessionClient(sink, this.#journal, this.#gapFrames)
    const { epoch, lastSeq } = this.#journal
    const { pendingApprovals } = this.#picture()
    client.sendDirect({ type: 'session/ready', payload: { ...ids, epoch, seq: lastSeq, pendingApprovals } })
    this.#clients.add(client)
    if (from) client.resume(from)
    return client
  }

  detach(client: SessionClient): void {
    client.detach()
    if (!client.hasSentAll) this.#journal.holdTaken()
    this.#clients.delete(client)
  }

  /** @param bytes JSON text from `start` to `end`. Call {@link scheduleFlush} after the last of a batch. */
  append(type: string, bytes: Buffer, start: number, end: number): void {
    this.#journal.append(type, bytes, start, end)
  }

  emit(type: string, payload: unknown): void {
    const bytes = Buffer.from(JSON.stringify(payload))
    this.append(type, bytes, 0, bytes.length)
    this.scheduleFlush()
  }

  /** After the microtasks of this turn of the loop, so that a response goes out before the events that follow it. */
  scheduleFlush(): void {
    this.#immediate ??= setImmediate(this.#flush)
  }

  /** Hands out what is new at once. */
  flush(): void {
    this.#handOut()
  }

  /** Hands out what is left and closes every client. */
  close(code: number, reason: string): void {
    this.#handOut()
    for (const client of this.#clients) client.close(code, reason)
    this.#journal.holdTaken()
    this.#clients.clear()
  }

  #haveSentAll(): boolean {
    for (const client of this.#clients) if (!client.hasSentAll) return false
    return true
  }

  #handOut(): void {
    clearImmediate(this.#immediate)
    this.#immediate = undefined
    const runs = this.#journal.takeNew()
    if (runs.length === 0) return
    const frames = runs.map((run) => run.frames)
    for (const client of this.#clients) client.deliver(runs, frames)
  }

  #describeGap(from: number, to: number): Buffer[] {
    const { epoch } = this.#journal
    return [
      encodeFrame({ type: 'session/gap', payload: { epoch, from, to } }),
      encodeFrame({ type: 'session/snapshot', payload: { epoch, seq: to, ...this.#picture() } })
    ]
  }
}
