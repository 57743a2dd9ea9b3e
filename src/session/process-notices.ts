import type { JsonObject } from '../json.ts'

/** Notifications that codex sends a client once, behind its `initialize`. */
const GREETINGS = new Set(['configWarning', 'remoteControl/status/changed'])
const MAX_NOTICES = 16

/** codex's answer to the handshake, and what it said with it. */
export interface Handshake {
  reply: JsonObject
  /** Notifications as codex wrote them. */
  notices: readonly Buffer[]
}

export function greetsClients(method: string): boolean {
  return GREETINGS.has(method)
}

/** What the process has told the gateway at its start, and every client that comes later has to hear too. */
export class ProcessNotices {
  #lines: Buffer[] = []

  get lines(): readonly Buffer[] {
    return this.#lines
  }

  note(line: Buffer): void {
    if (this.#lines.length < MAX_NOTICES) this.#lines.push(Buffer.from(line))
  }

  clear(): void {
    this.#lines = []
  }
}
