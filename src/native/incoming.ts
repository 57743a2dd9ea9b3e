import { isJsonObject, type JsonObject, type JsonValue } from '../json.ts'

/**
 * A message of a native client. `id` is the JSON text of its id, which goes back as it came: integers beyond 2^53 do not
 * survive a number. `ignored` is what codex drops without an answer, too.
 */
export type Incoming =
  | { kind: 'request'; id: string; method: string; params: JsonValue | undefined }
  /** `result` is undefined for an error. */
  | { kind: 'answer'; id: string; result: JsonValue | undefined }
  | { kind: 'notification'; method: string }
  | { kind: 'ignored'; reason: string }

const QUOTE = '"'
const INTEGER = /^(?:0|-?[1-9]\d*)$/
const MAX_INTEGER = 2n ** 63n - 1n
const MIN_INTEGER = -(2n ** 63n)

/** Reads one message as codex's own transport does. Never throws. */
export function readIncoming(text: string): Incoming {
  let message: JsonValue
  try {
    message = JSON.parse(text) as JsonValue
  } catch {
    return { kind: 'ignored', reason: 'not JSON' }
  }
  if (!isJsonObject(message)) return { kind: 'ignored', reason: 'not an object' }
  const { method } = message
  const id = readId(message, text)
  if (typeof method === 'string') {
    return id === undefined ? { kind: 'notification', method } : { kind: 'request', id, method, params: message.params }
  }
  if (id === undefined) return { kind: 'ignored', reason: 'neither a method nor an id' }
  if (message.result !== undefined) return { kind: 'answer', id, result: message.result }
  return isJsonObject(message.error)
    ? { kind: 'answer', id, result: undefined }
    : { kind: 'ignored', reason: 'neither method, result nor error' }
}

/** The id of a message that is not to be parsed, as it is too large; undefined when there is none. */
export function readIdOnly(text: string): string | undefined {
  const token = topLevelToken(text, 'id')
  if (token?.startsWith(QUOTE)) return textOf(token) === undefined ? undefined : token
  return integerToken(token)
}

function readId({ id }: JsonObject, text: string): string | undefined {
  if (typeof id === 'string') return JSON.stringify(id)
  if (typeof id !== 'number') return undefined
  return integerToken(topLevelToken(text, 'id'))
}

/** codex takes integers of 64 bits, and in no other notation. */
function integerToken(token = ''): string | undefined {
  if (!INTEGER.test(token)) return undefined
  const value = BigInt(token)
  return value >= MIN_INTEGER && value <= MAX_INTEGER ? token : undefined
}

/** The JSON text of a field of the outermost object, if that is a string or a number; the last one of several. */
function topLevelToken(text: string, key: string): string | undefined {
  let depth = 0
  let isKey = false
  let isWanted = false
  let found: string | undefined
  for (let at = 0; at < text.length; at++) {
    const char = text[at] as string
    if (char === QUOTE) {
      const end = stringEnd(text, at)
      if (isWanted && !isKey) found = text.slice(at, end)
      else if (depth === 1 && isKey) isWanted = textOf(text.slice(at, end)) === key
      at = end - 1
    } else if (char === '{' || char === '[') {
      depth++
      isKey = depth === 1
      isWanted = false
    } else if (char === '}' || char === ']') depth--
    else if (depth === 1 && char === ':') isKey = false
    else if (depth === 1 && char === ',') {
      isKey = true
      isWanted = false
    } else if (isWanted && !isKey && char !== ' ' && char !== '\t' && char !== '\n' && char !== '\r') {
      const end = scalarEnd(text, at)
      found = text.slice(at, end)
      at = end - 1
    }
  }
  return found
}

/** What a string says; it may be written with escapes. Undefined for what is no JSON. */
function textOf(token: string): string | undefined {
  try {
    return JSON.parse(token) as string
  } catch {
    return undefined
  }
}

/** Where the string that begins at `start` ends. */
function stringEnd(text: string, start: number): number {
  for (let at = text.indexOf(QUOTE, start + 1); at !== -1; at = text.indexOf(QUOTE, at + 1)) {
    let backslashes = 0
    while (text[at - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0) return at + 1
  }
  return text.length
}

function scalarEnd(text: string, start: number): number {
  let end = start
  while (end < text.length && !' \t\r\n,}'.includes(text[end] as string)) end++
  return end
}
