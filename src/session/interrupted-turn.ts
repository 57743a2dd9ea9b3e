/** What is known of a turn while it runs. Times as codex says them: `startedAt` in seconds. */
export interface RunningTurn {
  turnId: string
  rootTurnId: string | null
  startedAt: number | null
  startedAtMs: number
}

export interface InterruptedTurn extends RunningTurn {
  threadId: string
}

/**
 * The end of a turn whose process is gone, in codex's own shape (0.169, `turn/completed` of an interrupted turn): a
 * client that waits for the end of the turn gets one.
 *
 * @param endedAtMs null when nobody was there to see it
 */
export function interruptedTurnEvent(turn: InterruptedTurn, endedAtMs: number | null) {
  const { threadId, turnId, rootTurnId, startedAt, startedAtMs } = turn
  return {
    method: 'turn/completed',
    params: {
      threadId,
      turn: {
        id: turnId,
        rootTurnId,
        items: [],
        itemsView: 'notLoaded',
        status: 'interrupted',
        error: null,
        startedAt,
        completedAt: endedAtMs === null ? null : Math.floor(endedAtMs / 1000),
        durationMs: endedAtMs === null ? null : Math.max(0, endedAtMs - startedAtMs)
      }
    },
    emittedAtMs: endedAtMs ?? Date.now()
  }
}
