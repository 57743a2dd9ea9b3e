import { setTimeout as delay } from 'node:timers/promises'
import type { CodexProcess } from '../codex/process.ts'
import { asObject, asText, type JsonObject } from '../json.ts'
import { type InterruptedTurn, interruptedTurnEvent } from './interrupted-turn.ts'
import type { ThreadTracker } from './thread-tracker.ts'

/** A user who comes back waits for this at most; then his turns count as interrupted. */
const RECOVERY_TIMEOUT_MS = 3_000
/** The turn that ran is the last, or one of the last. */
const TURNS_READ = 5

/** `turn/completed`, as it goes to the clients. */
export interface TurnEnd {
  method: string
  params: { threadId: string; turn: object }
  emittedAtMs: number
}

/** The process of these turns has ended before everybody's eyes: they are interrupted. */
export function interruptTurns(tracker: ThreadTracker): TurnEnd[] {
  const nowMs = Date.now()
  return tracker.onProcessExit().map((turn) => interruptedTurnEvent(turn, nowMs))
}

/**
 * The ends of the turns that ran when an earlier gateway was killed. codex may have come to the end of a turn before it
 * died too, and the gateway never read it: its own history counts. Where it cannot be asked, a turn was interrupted.
 * Never rejects.
 *
 * @param start starts a process, and may fail
 */
export async function recoverTurns(tracker: ThreadTracker, start: () => Promise<CodexProcess>): Promise<TurnEnd[]> {
  const turns = tracker.onProcessExit()
  if (turns.length === 0) return []
  const bound = new AbortController()
  const given: JsonObject[] = await Promise.race([
    start().then((process) => Promise.all(turns.map((turn) => readEnd(turn, process)))),
    delay(RECOVERY_TIMEOUT_MS, [], { signal: bound.signal })
  ]).catch(() => [])
  bound.abort()
  return turns.map((turn, index) => {
    const own = given[index]
    if (own?.id !== turn.turnId) return interruptedTurnEvent(turn, null)
    tracker.onTurnCompleted(turn.threadId, own)
    return { method: 'turn/completed', params: { threadId: turn.threadId, turn: own }, emittedAtMs: Date.now() }
  })
}

/** The turn as codex has it now that it runs no more; empty where codex does not know it. */
async function readEnd({ threadId, turnId }: InterruptedTurn, process: CodexProcess): Promise<JsonObject> {
  const params = { threadId, limit: TURNS_READ, sortDirection: 'desc', itemsView: 'summary' }
  const reply = await process.request('thread/turns/list', params, RECOVERY_TIMEOUT_MS).catch(() => null)
  const { data } = asObject(reply)
  const turns = Array.isArray(data) ? data.map(asObject) : []
  const found = turns.find(({ id }) => id === turnId)
  return found === undefined || asText(found.status) === 'inProgress' ? {} : asCompleted(found)
}

/** A turn of the history as `turn/completed` has it: of its items the last message of the agent, if there is one. */
function asCompleted(turn: JsonObject): JsonObject {
  const items = Array.isArray(turn.items) ? turn.items.filter((item) => asObject(item).type === 'agentMessage') : []
  return { ...turn, items: items.slice(-1), itemsView: items.length > 0 ? 'summary' : 'notLoaded' }
}
