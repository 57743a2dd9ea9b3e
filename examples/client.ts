/**
 * A terminal client on nothing but the gateway's WebSocket messages (see connection.ts): copy both, change both.
 *
 *   npx tsx examples/client.ts [--url ws://localhost:3000/ws] [--user alice | --token TOKEN] [--thread ID]
 *
 * A line is a prompt; while the agent works it is added to the running turn. When an approval waits, a line answers it:
 * y yes · s yes, and the same for the rest of the session · n no · c no, and stop the turn. Ctrl-C stops the turn, once
 * more it leaves; so does /quit. Lines can be piped in: one prompt after the other, and the end of input leaves.
 * CLOUD_CODEX_URL and CLOUD_CODEX_TOKEN stand in for the options; a token in the environment is in no process list.
 */
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import {
  type Approval,
  type CodexEvent,
  Connection,
  type Decision,
  type Item,
  type Message,
  type Resolved
} from './connection.ts'

const ANSWERS: Record<string, Decision> = { y: 'accept', s: 'acceptForSession', n: 'decline', c: 'cancel' }
const SHOWN_LINES = 12

const options = readArguments()
const isTerminal = process.stdin.isTTY
const input = createInterface({ input: process.stdin, ...(isTerminal ? { output: process.stdout } : {}) })
const lines: string[] = []
const approvals = new Map<string, Approval>()
/** Commands and file changes that have started and not ended, by item id. */
const running = new Map<string, string>()
let threadId = options.thread
let turnId: string | undefined
let isWorking = false
let isStopping = false
let isInputOver = false
let isAtLineStart = true

const connection = new Connection({
  url: options.url,
  token: options.token,
  onMessage,
  onReady: () => void openThread(),
  onLost: (reason) => say(`[connection lost${reason && `: ${reason}`}; reconnecting …]`),
  onEnd: fail
})

input.on('line', (line) => {
  lines.push(line.trim())
  if (isTerminal) isAtLineStart = true
  next()
})
input.on('close', () => {
  isInputOver = true
  next()
})
input.on('SIGINT', onInterrupt)
process.on('SIGINT', onInterrupt)

/** Takes the next line, as an answer or a prompt, as soon as there is something to do with it. */
function next(): void {
  if (!connection.isReady || threadId === undefined) return
  const [approval] = approvals.values()
  if (lines.length > 0) {
    if (!approval && isWorking && !isTerminal) return
    const line = lines.shift() as string
    if (!isTerminal) say(`> ${line}`)
    if (line === '/quit') quit(0)
    if (approval) answer(approval, line)
    else if (line !== '') prompt(line)
    next()
  } else if (!isWorking && isInputOver) quit(0)
  else if (!isWorking && !approval && isTerminal) showPrompt()
}

function prompt(text: string): void {
  isWorking = true
  connection.request('turn/start', { threadId, input: [{ type: 'text', text }] }).catch((error: Error) => {
    complain(error)
    if (turnId === undefined) endTurn()
  })
}

function answer({ approvalId, decisions }: Approval, line: string): void {
  const decision = ANSWERS[line.toLowerCase()]
  if (decision === undefined || !decisions.includes(decision)) {
    say(`Answer ${choices(decisions)}.`)
    return
  }
  approvals.delete(approvalId)
  connection.request('approval/respond', { approvalId, decision }).catch(complain)
}

function onMessage(message: Message): void {
  switch (message.type) {
    case 'session/ready':
      onConnected(message.payload)
      break
    case 'event':
      if (message.payload.params.threadId === threadId) onEvent(message.payload)
      break
    case 'approval/request':
      ask(message.payload)
      break
    case 'approval/resolved':
      onResolved(message.payload)
      break
    case 'session/state':
      if (!['starting', 'ready'].includes(message.payload.state)) {
        say(`[codex process ${message.payload.state}${message.payload.reason ? `: ${message.payload.reason}` : ''}]`)
        endTurn()
      }
      break
    case 'session/gap':
      say('[some events are gone: the gateway was restarted, or they were too old]')
      break
    case 'session/snapshot':
      turnId = message.payload.threads.find((thread) => thread.threadId === threadId)?.turnId
      if (turnId === undefined) endTurn()
      break
    case 'error':
      complain(message.payload)
  }
}

function onConnected({ userId, pendingApprovals }: { userId: string; pendingApprovals: Approval[] }): void {
  say(`[connected as ${userId}]`)
  const known = new Set(approvals.keys())
  approvals.clear()
  for (const approval of pendingApprovals) {
    if (known.has(approval.approvalId)) approvals.set(approval.approvalId, approval)
    else ask(approval)
  }
}

async function openThread(): Promise<void> {
  if (threadId === undefined) {
    const started = await connection.request('thread/start', {}).catch((error: Error) => fail(error.message))
    threadId = started.threadId as string
    say(`[thread ${threadId}]`)
  }
  next()
}

function onEvent({ method, params: { turn, item, delta } }: CodexEvent): void {
  if (method === 'turn/started') {
    turnId = turn?.id
    isWorking = true
  } else if (method === 'item/agentMessage/delta') {
    write(delta ?? '')
  } else if (method === 'item/started' && item) {
    const title = describeItem(item)
    if (title === undefined) return
    running.set(item.id, title)
    say(title)
  } else if (method === 'item/completed' && item && running.delete(item.id)) {
    if (item.aggregatedOutput) say(shorten(item.aggregatedOutput))
    if (item.status !== 'completed') say(`(${item.status}${item.exitCode ? `, exit code ${item.exitCode}` : ''})`)
  } else if (method === 'turn/completed' && turn) {
    if (turn.status !== 'completed') say(`[turn ${turn.status}${turn.error ? `: ${turn.error.message}` : ''}]`)
    endTurn()
  }
}

function endTurn(): void {
  turnId = undefined
  isWorking = false
  isStopping = false
  running.clear()
  next()
}

function ask(approval: Approval): void {
  approvals.set(approval.approvalId, approval)
  const { kind, command, cwd, changes = [], reason, policy, decisions, expiresAt } = approval
  say(`--- approval: ${kind}${reason ? ` (${reason})` : ''}`)
  if (command !== undefined) say(`${unwrap(command)}\nin ${cwd}`)
  for (const change of changes) say(`${change.kind} ${change.path}\n${shorten(change.diff)}`)
  if (command === undefined && changes.length === 0) say(shorten(JSON.stringify(approval, null, 2)))
  say(`asked because: ${policy.reason}; open until ${new Date(expiresAt).toLocaleTimeString()}`)
  say(`--- ${choices(decisions)}?`)
  next()
}

function onResolved({ approvalId, outcome, by }: Resolved): void {
  approvals.delete(approvalId)
  if (by.kind === 'policy' || by.kind === 'rule') {
    // Decided without asking: it is about what was started last.
    const what = [...running.values()].at(-1)?.replace(/^\$ /, '')
    say(`${by.kind} ${outcome}: ${what} (${by.rule})`)
  } else {
    say(`${outcome} by ${by.id ?? by.kind}`)
  }
  next()
}

function onInterrupt(): void {
  if (turnId === undefined || isStopping) quit(130)
  isStopping = true
  say('[stopping the turn; Ctrl-C again leaves]')
  connection.request('turn/interrupt', { threadId, turnId }).catch(complain)
}

function describeItem({ type, command, changes = [] }: Item): string | undefined {
  if (type === 'commandExecution') return `$ ${unwrap(command ?? '')}`
  if (type === 'fileChange') return changes.map(({ kind, path }) => `${kind.type} ${path}`).join('\n')
  return undefined
}

/** codex runs everything by `bash -lc`; where the quotes are simple, what is in them is shown. */
function unwrap(command: string): string {
  const [, quoted, word] = /^\/\S*sh -l?c (?:'([^']*)'|([\w./-]+))$/.exec(command) ?? []
  return quoted ?? word ?? command
}

function choices(decisions: Decision[]): string {
  const open = Object.entries(ANSWERS).filter(([, decision]) => decisions.includes(decision))
  return open.map(([key, decision]) => `${key} = ${decision}`).join(', ')
}

function shorten(text: string): string {
  const all = text.trimEnd().split('\n')
  const rest = all.length - SHOWN_LINES
  return [...all.slice(0, SHOWN_LINES), ...(rest > 0 ? [`… ${rest} more lines`] : [])].join('\n')
}

/** Writes on a line of its own. */
function say(text: string): void {
  write(`${isAtLineStart ? '' : '\n'}${text}\n`)
}

function complain({ message }: { message: string }): void {
  say(`[${message}]`)
}

function write(text: string): void {
  // Text from outside may hold escape sequences that repaint the screen, and with it the question of an approval.
  process.stdout.write(text.replace(/(?![\n\t])[\p{Cc}\p{Bidi_Control}]/gu, '�'))
  if (text !== '') isAtLineStart = text.endsWith('\n')
}

function showPrompt(): void {
  if (!isAtLineStart) write('\n')
  input.setPrompt('> ')
  input.prompt(true)
  isAtLineStart = false
}

function readArguments(): { url: URL; token: string | undefined; thread: string | undefined } {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({ options: { url: text, user: text, token: text, thread: text } })
    const { token = process.env.CLOUD_CODEX_TOKEN, thread } = values
    const url = new URL(values.url ?? process.env.CLOUD_CODEX_URL ?? 'ws://localhost:3000/ws')
    const user = values.user ?? (token === undefined ? 'alice' : undefined)
    if (user !== undefined) url.searchParams.set('userId', user)
    return { url, token, thread }
  } catch (error) {
    return fail((error as Error).message)
  }
}

function quit(code: number): never {
  if (!isAtLineStart) process.stdout.write('\n')
  process.exit(code)
}

function fail(reason: string): never {
  process.stderr.write(`client: ${reason}\n`)
  process.exit(1)
}
