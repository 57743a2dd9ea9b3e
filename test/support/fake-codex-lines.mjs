// The line producer behind fake-codex-lines.sh. A turn with the text `flood: N` streams N deltas (`tok0 `, `tok1 `, …,
// as the demo model does), as many lines at once as the pipe takes; `flood: N every MS` streams one each MS milliseconds.
// The lines are those of recorded-turn.jsonl, which the real codex wrote, with other ids and texts.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as delay, setImmediate as nextLoop } from 'node:timers/promises'

/** A message of codex has an end: its item/completed repeats its whole text. */
const DELTAS_PER_ITEM = 5_000
const LINES_PER_WRITE = 250

const recorded = readFileSync(new URL('recorded-turn.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
const DELTA = recorded.findIndex((line) => line.startsWith('{"method":"item/agentMessage/delta"'))
const [started, ...beforeItem] = recorded.slice(0, DELTA - 1)
const [itemStarted, delta, itemCompleted] = recorded.slice(DELTA - 1, DELTA + 2)
const afterItems = recorded.slice(DELTA + 2)

let items = 0

const fill = (line, values) =>
  line.replace(/\{(threadId|turnId|itemId|prompt|text|delta)\}/g, (_, name) => values[name])
const write = (lines) => process.stdout.write(`${lines.join('\n')}\n`)
const answer = (id, result) => write([JSON.stringify({ id, result })])

async function playTurn(threadId, turnId, prompt) {
  const [, count = '1', everyMs] = /^flood: *(\d+)(?: every (\d+))?/.exec(prompt) ?? []
  let values = { threadId, turnId, prompt }
  write(beforeItem.map((line) => fill(line, values)))
  for (let first = 0; first < Number(count); first += DELTAS_PER_ITEM) {
    values = { ...values, itemId: `msg_fake_${++items}`, text: '' }
    write([fill(itemStarted, values)])
    const end = Math.min(first + DELTAS_PER_ITEM, Number(count))
    const text = await playDeltas(fill(delta, { ...values, delta: '{delta}' }), first, end, Number(everyMs ?? 0))
    values = { ...values, text }
    write([fill(itemCompleted, values)])
  }
  write(afterItems.map((line) => fill(line, values)))
}

async function playDeltas(line, first, end, everyMs) {
  const [head, tail] = line.split('{delta}')
  let text = ''
  let lines = []
  for (let index = first; index < end; index++) {
    text += `tok${index} `
    lines.push(`${head}tok${index} ${tail}`)
    if (lines.length < (everyMs > 0 ? 1 : LINES_PER_WRITE) && index + 1 < end) continue
    write(lines)
    lines = []
    // Requests are read between two writes.
    await (everyMs > 0 ? delay(everyMs) : nextLoop())
  }
  return text
}

function onRequest({ id, method, params = {} }) {
  if (id === undefined) return
  switch (method) {
    case 'initialize':
      answer(id, { userAgent: 'fake', codexHome: '/codex-home', platformFamily: 'unix', platformOs: 'linux' })
      break
    case 'thread/start':
    case 'thread/resume': {
      const threadId = params.threadId ?? randomUUID()
      const line = fill(started, { threadId })
      const { approvalPolicy, approvalsReviewer } = params
      const sandbox = { type: 'workspaceWrite', writableRoots: [], networkAccess: false }
      answer(id, { thread: JSON.parse(line).params.thread, approvalPolicy, approvalsReviewer, sandbox })
      if (method === 'thread/start') write([line])
      break
    }
    case 'turn/start': {
      const turnId = randomUUID()
      answer(id, { turn: { id: turnId, items: [], status: 'inProgress', error: null } })
      void playTurn(params.threadId, turnId, params.input[0].text)
      break
    }
    default:
      answer(id, method.endsWith('/list') ? { data: [], nextCursor: null } : {})
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => onRequest(JSON.parse(line)))
  .on('close', () => process.exit(0))
