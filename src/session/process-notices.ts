import type { JsonObject } from '../json.ts'

/**
 * `greeting`: codex sends it a client once, behind its `initialize`. `own`: it follows the gateway's own login, which is
 * no client's business.
 */
const NOTICES = new Map<string, 'greeting' | 'own'>([
  ['configWarning', 'greeting'],
  ['remoteControl/status/changed', 'greeting'],
  ['account/login/completed', 'own'],
  ['account/updated', 'own']
])
const MAX_NOTICES = 16

/** codex's answer to the handshake, and what it said with it. */
export interface Handshake {
  reply: JsonObject
  /** Notifications as codex wrote them. */
  notices: readonly Buffer[]
}

export function greetsClients(method: string): boolean {
  return NOTICES.get(method) === 'greeting'
}

/** What the process has told the gateway at its start, and every client that comes later has to hear too. */
export class ProcessNotices {
  #lines: Buffer[] = []

  get lines(): readonly Buffer[] {
    return this.#lines
  }

  /** Keeps a greeting for clients to come. Returns whether those that are there get the line. */
  passes(method: string, bytes: Buffer, start: number, end: number): boolean {
    const kind = NOTICES.get(method)
    if (kind === 'greeting' && this.#lines.length < MAX_NOTICES) {
      this.#lines.push(Buffer.from(bytes.subarray(start, end)))
    }
    return kind !== 'own'
  }

  clear(): void {
    this.#lines = []
  }
}
