import { setTimeout as delay } from 'node:timers/promises'
import { BenchClient } from './client.ts'

/** What the benchmark asks: a turn of so many deltas for every user, or how many deltas came so far. */
export type PaceOrder = { turn: number } | 'count'
export type PaceAnswer = 'ready' | 'streaming' | 'done' | number

const [base, users] = process.argv.slice(2) as [string, string]
const STAGGER_MS = 7

// One user after the other: all starts at once would be another benchmark.
const sessions: { client: BenchClient; threadId: string }[] = []
for (let n = 0; n < Number(users); n++) {
  const client = await BenchClient.connect(`${base}?userId=bench-${n}`)
  sessions.push({ client, threadId: await client.startThread() })
}

const say = (answer: PaceAnswer) => process.send?.(answer)

async function run(deltas: number): Promise<void> {
  const first = sessions.map(({ client }) => client.next('item/agentMessage/delta'))
  const turns: Promise<void>[] = []
  for (const { client, threadId } of sessions) {
    turns.push(client.runTurn(threadId, `flood: ${deltas}`))
    await delay(STAGGER_MS)
  }
  await Promise.all(first)
  say('streaming')
  await Promise.all(turns)
  say('done')
}

process.on('message', (order: PaceOrder) => {
  if (order === 'count') say(sessions.reduce((sum, { client }) => sum + client.deltas, 0))
  else void run(order.turn)
})
process.once('disconnect', () => process.exit())
say('ready')
