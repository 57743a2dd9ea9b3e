import { isRefusal, type Refusal, refuse } from './request.ts'
import { readScript, type SimpleCommand } from './shell.ts'

const SHELLS = new Set(['bash', 'sh', '/bin/bash', '/bin/sh', '/usr/bin/bash', '/usr/bin/sh'])
const SCRIPT_FLAGS = new Set(['-lc', '-c'])
/** The text of a request may be longer than its script: quoting grows it by at most four. */
const MAX_COMMAND_CHARS = 20_000

export interface CommandReading {
  readonly script: string
  readonly commands: readonly SimpleCommand[]
}

/**
 * Reads `params.command`: exactly `[bash|sh, -lc|-c, script]` is unwrapped once, anything else is read as a script itself.
 * Other shells, flags and word counts stay a command called `bash`, which no table knows.
 */
export function readCommand(command: string): CommandReading | Refusal {
  if (command.length > MAX_COMMAND_CHARS) return refuse('the command is too long to be read')
  const words = splitShlex(command)
  const script = words !== undefined && isShellCall(words) ? words[2] : command
  const commands = readScript(script)
  return isRefusal(commands) ? commands : { script, commands }
}

function isShellCall(words: readonly string[]): words is readonly [string, string, string] {
  const [shell, flag] = words
  return words.length === 3 && SHELLS.has(shell as string) && SCRIPT_FLAGS.has(flag as string)
}

/**
 * The inverse of the shlex_join that codex applies to argv. Unquoted text is held to characters that mean nothing to a
 * shell, so that a person's `bash -c ls > x` is not taken for three words.
 */
function splitShlex(text: string): readonly string[] | undefined {
  const words: string[] = []
  let word: string | undefined
  let at = 0
  while (at < text.length) {
    const char = text.charAt(at)
    if (char === ' ') {
      if (word !== undefined) words.push(word)
      word = undefined
      at += 1
      continue
    }
    const piece: { readonly text: string; readonly end: number } | undefined = readPiece(text, at)
    if (piece === undefined) return undefined
    word = (word ?? '') + piece.text
    at = piece.end
  }
  if (word !== undefined) words.push(word)
  return words
}

function readPiece(text: string, at: number): { text: string; end: number } | undefined {
  const char = text.charAt(at)
  if (char === "'") {
    const end = text.indexOf("'", at + 1)
    return end < 0 ? undefined : { text: text.slice(at + 1, end), end: end + 1 }
  }
  if (char === '"') return readEscaped(text, at + 1)
  return /[A-Za-z0-9_@%+=:,./-]/.test(char) ? { text: char, end: at + 1 } : undefined
}

function readEscaped(text: string, start: number): { text: string; end: number } | undefined {
  let read = ''
  for (let at = start; at < text.length; at += 1) {
    const char = text.charAt(at)
    if (char === '"') return { text: read, end: at + 1 }
    // shlex_join escapes these: a bare one was written for a shell that would expand it.
    if (char === '$' || char === '`') return undefined
    const next = text.charAt(at + 1)
    if (char === '\\' && next !== '' && '$`"\\'.includes(next)) {
      read += next
      at += 1
    } else if (char === '\\' && next === '\n') {
      at += 1
    } else {
      read += char
    }
  }
  return undefined
}
