import { relative } from 'node:path'
import type { Call } from './exchange.ts'
import type { NativeMessage } from './native-client.ts'

/** What one side of an exchange said, and what stands there only because it is this side. */
export interface Recording {
  calls: readonly Call[]
  received: readonly NativeMessage[]
  /** Directories and addresses by name; each becomes its name. */
  places: Readonly<Record<string, string>>
}

export interface Transcript {
  /** Replies by `method, what`. */
  replies: [title: string, reply: unknown][]
  /** Notifications and requests of the server, in order: of a thread, or of the whole process. */
  streams: Map<string, unknown[]>
}

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g
const TIME_KEY = /(At|AtMs|Ms|_at|Seconds)$/
const MEASURED_KEYS = new Set(['osPid', 'processId', 'cpuPercent', 'rssKb'])
/** Texts that differ from run to run: what they are, and what stands in their place. */
const TEXTS: readonly [what: string, pattern: RegExp, shown: string][] = [
  ['time in a text', /\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d(\.\d+)?Z?/g, '<time>'],
  ['date in a path', /sessions\/\d{4}\/\d\d\/\d\d/g, 'sessions/<date>'],
  ['number of a terminal', /(session ID |session-id )\d+/g, '$1<n>'],
  ['measure in a text', /(Chunk ID: |Wall time: )[0-9a-f.]+/g, '$1<n>'],
  ['id that the model gave', /\b(call|msg)_\d+(_\d+)?\b/g, '$1_<n>'],
  ['id of a message that codex made', /\bmsg_[0-9a-f]{8}-[0-9a-f-]{27}/g, 'msg_<id>'],
  ['place in the stored thread', /(\\?"rolloutOrdinal\\?":)\d+/g, '$1<n>'],
  ['hash of the configuration', /sha256:[0-9a-f]{64}/g, 'sha256:<hash>']
]
/** codex knows the gateway as its only client, whoever else there is. */
const CLIENT_KEYS = new Set(['originator', 'CLOUD_CODEX_PROCESS'])
/** Counted in the stored thread, in which the gateway has codex write a line when it is made. */
const PLACE_KEYS = new Set(['position'])
const USER_AGENT = /^[^/]+(?=\/)/g

/** Sent by tasks of their own: when they come among a thread's other notifications is chance, and so is how often. */
const UNORDERED = new Set([
  'account/rateLimits/updated',
  'fuzzyFileSearch/sessionCompleted',
  'mcpServer/startupStatus/updated',
  'thread/readState/changed',
  'thread/queue/changed',
  'warning'
])

/** Said once or twice: a thread that nobody listens to may be unloaded before it is archived, or with it. */
const REPEATED = new Set([...UNORDERED, 'thread/status/changed'])

const SEARCH_UPDATED = 'fuzzyFileSearch/sessionUpdated'

/** Makes the recordings of two sides comparable, and remembers which fields it has touched, and why. */
export class Normaliser {
  readonly #touched = new Map<string, Set<string>>()

  /** `what: where, where`, one line for each kind of difference. */
  get report(): string[] {
    return [...this.#touched].map(([what, keys]) => `${what}: ${[...keys].sort().join(', ')}`).sort()
  }

  transcribe({ calls, received, places }: Recording): Transcript {
    const names = nameThreadsAndTurns(calls, received)
    const normal = (value: unknown, key = ''): unknown => {
      if (typeof value === 'string') return this.#text(value, key, names, places)
      if (typeof value === 'number') return this.#number(value, key)
      if (Array.isArray(value)) return value.map((entry) => normal(entry, key))
      if (typeof value !== 'object' || value === null) return value
      const entries = Object.entries(value).map(([name, entry]) => [normal(name, `key of ${key}`), normal(entry, name)])
      return Object.fromEntries(entries)
    }
    const streams = new Map<string, unknown[]>()
    const interrupted = new Set(received.flatMap((message) => interruptedTurn(message) ?? []))
    for (const message of received) {
      if (message.method === undefined) continue
      if (message.method === 'thread/tokenUsage/updated' && interrupted.has(message.params.turnId)) {
        this.#note('left out, since codex counts an interrupted turn or does not', message.method)
        continue
      }
      if (message.method === 'mcpServer/startupStatus/updated' && message.params.status === 'ready') {
        this.#note('left out, since a thread may end before its servers are ready', message.method)
        continue
      }
      const name = String(normal(streamOf(message, message.method), 'threadId'))
      const stream = streams.get(name) ?? []
      streams.set(name, stream)
      this.#add(stream, normal(message) as NativeMessage)
    }
    const replies = calls.map(({ method, what, reply }): [string, unknown] => [
      [method, what].filter(Boolean).join(', '),
      normal(this.#reply(reply))
    ])
    return { replies, streams }
  }

  /** Without the id, and without what the gateway says beside codex's own error. */
  #reply({ id: _, ...reply }: NativeMessage): object {
    const { error } = reply
    if (!String(error?.data?.code).startsWith('CC_')) return reply
    this.#note('added by the gateway', 'error.data.code, .message, .details')
    const { code: _code, message: _message, details: _details, ...data } = error?.data ?? {}
    const { data: _data, ...rest } = error ?? {}
    return { ...reply, error: Object.keys(data).length === 0 ? rest : { ...rest, data } }
  }

  /** How codex cuts a stream of output into pieces, and how often it says that something has changed, is chance. */
  #add(stream: unknown[], message: NativeMessage): void {
    const last = stream.at(-1) as NativeMessage | undefined
    const isSame = last !== undefined && last.method === message.method
    if (isSame && message.method?.endsWith('/outputDelta') && last.params.itemId === message.params.itemId) {
      last.params.delta += message.params.delta
      this.#note('pieces put together', 'delta')
    } else if (isSame && message.method === 'fs/changed' && last.params.watchId === message.params.watchId) {
      last.params.changedPaths = [...new Set([...last.params.changedPaths, ...message.params.changedPaths])].sort()
      this.#note('pieces put together', 'changedPaths')
    } else if (isSame && message.method === SEARCH_UPDATED && last.params.query === message.params.query) {
      last.params = message.params
      this.#note('the last of several', message.method)
    } else if (isSame && REPEATED.has(message.method ?? '') && JSON.stringify(last) === JSON.stringify(message)) {
      this.#note('repeated notification', message.method ?? '')
    } else stream.push(message)
  }

  #text(value: string, key: string, names: Map<string, string>, places: Recording['places']): string {
    let text = value
    for (const [name, place] of Object.entries(places)) {
      text = this.#replace(`path or address (${name})`, key, text, place, `<${name}>`)
      // codex shows a path of a diff as seen from the root of the repository around it.
      text = this.#replace(`path or address (${name})`, key, text, relative('.', place) || place, `<${name}>`)
    }
    if (CLIENT_KEYS.has(key)) return this.#replace('client of the process', key, text, text, '<client>')
    if (key === 'userAgent') text = this.#replace('client of the process', key, text, USER_AGENT, '<client>')
    if (MEASURED_KEYS.has(key)) return this.#replace('measure', key, text, text, '<n>')
    for (const [what, pattern, shown] of TEXTS) text = this.#replace(what, key, text, pattern, shown)
    const named = text.replace(UUID, (id) => names.get(id) ?? '<id>')
    if (named !== text) this.#note('id', key)
    // A thread that was reverted has two files, and codex lists either.
    return this.#replace('file of a reverted thread', key, named, '_<id>.jsonl', '.jsonl')
  }

  #number(value: number, key: string): unknown {
    if (key === 'exitCode' && value !== 0) {
      // A command that is killed ends with -1 or 1, as it happens.
      this.#note('exit code of a failure', key)
      return '<not 0>'
    }
    if (key === 'score') {
      // The gateway searches itself, and weighs in its own way.
      this.#note('weight of a file that was found', key)
      return '<n>'
    }
    if (PLACE_KEYS.has(key)) {
      this.#note('place in the stored thread', key)
      return '<n>'
    }
    if (!TIME_KEY.test(key) && !MEASURED_KEYS.has(key)) return value
    this.#note('time or measure', key)
    return '<n>'
  }

  #replace(what: string, key: string, text: string, pattern: string | RegExp, shown: string): string {
    const replaced = text.replaceAll(pattern, shown)
    if (replaced !== text) this.#note(what, key)
    return replaced
  }

  #note(what: string, key: string): void {
    this.#touched.set(what, (this.#touched.get(what) ?? new Set()).add(key))
  }
}

function streamOf({ params }: NativeMessage, method: string): string {
  const threadId: string | undefined = params?.threadId ?? params?.thread?.id
  if (threadId === undefined) return method
  // What a command that outlives its turn says comes among the items of later ones.
  if (method.startsWith('item/') && params.turnId !== undefined) return params.turnId
  return UNORDERED.has(method) ? `${threadId} ${method}` : threadId
}

function interruptedTurn({ method, params }: NativeMessage): string | undefined {
  return method === 'turn/completed' && params.turn.status === 'interrupted' ? params.turn.id : undefined
}

/** Threads and turns are called by the order in which they came into the world. */
function nameThreadsAndTurns(calls: readonly Call[], received: readonly NativeMessage[]): Map<string, string> {
  const names = new Map<string, string>()
  const counts = { thread: 0, turn: 0 }
  const name = (id: unknown, kind: keyof typeof counts) => {
    if (typeof id === 'string' && !names.has(id)) names.set(id, `<${kind} ${++counts[kind]}>`)
  }
  for (const { reply } of calls) name(reply.result?.thread?.id, 'thread')
  for (const { method, params } of received) if (method === 'turn/started') name(params.turn.id, 'turn')
  return names
}
