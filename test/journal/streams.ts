import { encodeFrame, messagesIn } from '../../src/journal/frames.ts'
import type { Run } from '../../src/journal/run.ts'
import type { Received } from '../support/ws-client.ts'

export interface Message {
  type: string
  seq: number
  replaces?: { from: number; to: number }
  payload: Received['payload']
}

/** A journal of these messages in runs of these lengths; numbers that are missing are holes. */
export function journalOf(messages: readonly Message[], runLength: (index: number) => number) {
  const runs: Run[] = []
  let group: Message[] = []
  const end = () => {
    const [first, last] = [group[0], group.at(-1)]
    if (first && last) {
      runs.push({ firstSeq: first.seq, lastSeq: last.seq, atMs: 0, frames: Buffer.concat(group.map(encodeFrame)) })
    }
    group = []
  }
  for (const message of messages) {
    const last = group.at(-1)
    if (last && (message.seq !== last.seq + 1 || group.length >= runLength(runs.length))) end()
    group.push(message)
  }
  end()
  const after = (run: Run, seq: number): Run => {
    if (run.firstSeq > seq) return run
    const rest = [...messagesIn(run.frames)].slice(seq + 1 - run.firstSeq).map((text) => encodeFrame(parse(text)))
    return { ...run, firstSeq: seq + 1, frames: Buffer.concat(rest) }
  }
  return {
    read(seq: number, maxBytes: number) {
      const found: Run[] = []
      let bytes = 0
      for (const run of runs) {
        if (run.lastSeq <= seq) continue
        bytes += run.frames.length
        if (found.length > 0 && bytes > maxBytes) break
        found.push(after(run, seq))
      }
      return found
    }
  }
}

export const parse = (text: Buffer) => JSON.parse(String(text)) as Message

export const event = (seq: number, method: string, params: object): Message => {
  return { type: 'event', seq, payload: { method, params, emittedAtMs: 1_795_365_729_647 } }
}
const ids = (item: number) => ({ threadId: `thread-${item % 2}`, turnId: 'turn', itemId: `msg_${item}` })
export const delta = (seq: number, item = 1, method = 'item/agentMessage/delta') =>
  event(seq, method, { ...ids(item), delta: `tok${seq} ` })
export const completed = (seq: number, item = 1, fields: object = { type: 'agentMessage', text: 'the whole' }) => {
  const { itemId, ...rest } = ids(item)
  return event(seq, 'item/completed', { item: { ...fields, id: itemId }, ...rest, completedAtMs: 1 })
}
export const other = (seq: number) => event(seq, 'thread/tokenUsage/updated', { threadId: 'thread-1', total: seq })
export const approval = (seq: number): Message => ({
  type: 'approval/request',
  seq,
  payload: { approvalId: 'a', itemId: 'x' }
})
