import { asObject, asText, type JsonObject, type JsonValue } from '../json.ts'
import { EarlyLines } from './early-lines.ts'

/** Of a thread, and all the same for every client (measured with codex 0.169: those that list threads show these). */
const FOR_ALL = new Set([
  'thread/started',
  'thread/status/changed',
  'thread/name/updated',
  'thread/goal/updated',
  'thread/goal/cleared',
  'thread/section/changed',
  'thread/project/updated',
  'thread/archived',
  'thread/unarchived',
  'thread/deleted',
  'thread/closed',
  'thread/reverted'
])

const METHOD = Buffer.from('{"method":"')
const PARAMS = Buffer.from('","params":{')
const THREAD_FIRST = Buffer.from('"threadId":"')
const THREAD_LATER = Buffer.from(',"threadId":"')
const QUOTE = 0x22

/** Which of codex's notifications one client gets: by the threads it has subscribed to, less what it has opted out of. */
export class Subscriptions {
  readonly early = new EarlyLines()
  readonly #threads = new Set<string>()
  readonly #optedOut: ReadonlySet<string>
  /** The beginning, up to its thread, of the line before: in a flood it is the same for thousands of lines. */
  #lastHead = Buffer.alloc(0)
  #lastVerdict = false

  constructor(optedOut: readonly string[]) {
    this.#optedOut = new Set(optedOut)
  }

  add(threadId: string): void {
    this.#threads.add(threadId)
    this.#lastHead = Buffer.alloc(0)
  }

  /** Returns whether it was subscribed. */
  delete(threadId: string): boolean {
    this.#lastHead = Buffer.alloc(0)
    return this.#threads.delete(threadId)
  }

  has(threadId: string): boolean {
    return this.#threads.has(threadId)
  }

  /** Whether the client wants notifications of this method at all. */
  wants(method: string): boolean {
    return !this.#optedOut.has(method)
  }

  /** Whether the client gets this line, if it is of the same method and thread as the one before; else undefined. */
  passAsBefore(bytes: Buffer, start: number, end: number): boolean | undefined {
    const head = this.#lastHead
    const isAlike = head.length > 0 && !this.early.isExpecting && start + head.length <= end && isAt(head, bytes, start)
    return isAlike ? this.#lastVerdict : undefined
  }

  /** Whether the client gets this line of codex: `bytes` from `start` to `end`, a notification of this method. */
  pass(method: string, bytes: Buffer, start: number, end: number): boolean {
    if (!this.wants(method)) return false
    if (FOR_ALL.has(method)) return true
    const threadId = this.#firstThread(method, bytes, start, end) ?? threadOf(method, bytes, start, end)
    if (threadId === undefined) return true
    const passes = this.#threads.has(threadId)
    if (!passes && this.early.isExpecting) this.early.note(threadId, bytes, start, end)
    return passes
  }

  /** The thread that is named first, as in most lines; then the next line alike need not be read. */
  #firstThread(method: string, bytes: Buffer, start: number, end: number): string | undefined {
    const at = start + METHOD.length + method.length + PARAMS.length
    if (!isAt(THREAD_FIRST, bytes, at)) return undefined
    const idStart = at + THREAD_FIRST.length
    const close = bytes.indexOf(QUOTE, idStart)
    if (close === -1 || close >= end) return undefined
    const threadId = bytes.toString('utf8', idStart, close)
    this.#lastHead = Buffer.from(bytes.subarray(start, close + 1))
    this.#lastVerdict = this.#threads.has(threadId)
    return threadId
  }
}

/** The method of a line that codex, or the gateway in its name, has written; undefined for any other shape. */
export function methodOf(bytes: Buffer, start: number, end: number): string | undefined {
  if (!isAt(METHOD, bytes, start)) return undefined
  const methodStart = start + METHOD.length
  const methodEnd = bytes.indexOf(QUOTE, methodStart)
  return methodEnd === -1 || methodEnd >= end ? undefined : bytes.toString('latin1', methodStart, methodEnd)
}

export function paramsOf(bytes: Buffer, start: number, end: number): JsonObject {
  return asObject((JSON.parse(bytes.toString('utf8', start, end)) as { params?: JsonValue }).params)
}

function threadOf(method: string, bytes: Buffer, start: number, end: number): string | undefined {
  if (!method.startsWith('item/')) return asText(paramsOf(bytes, start, end).threadId)
  // The item, which may be large, stands before its thread, and nothing but numbers and ids behind.
  const at = bytes.lastIndexOf(THREAD_LATER, end - 1)
  if (at <= start) return undefined
  const idStart = at + THREAD_LATER.length
  return bytes.toString('utf8', idStart, bytes.indexOf(QUOTE, idStart))
}

function isAt(pattern: Buffer, bytes: Buffer, at: number): boolean {
  const end = at + pattern.length
  return end <= bytes.length && bytes.compare(pattern, 0, pattern.length, at, end) === 0
}
