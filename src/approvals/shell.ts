import { isRefusal, type Refusal, refuse } from './request.ts'

/** One simple command: its words as the shell passes them, and whether a pipe feeds its standard input. */
export interface SimpleCommand {
  readonly argv: readonly string[]
  readonly piped: boolean
}

export const MAX_SCRIPT_CHARS = 4096
export const MAX_SIMPLE_COMMANDS = 32

const PLAIN = /[A-Za-z0-9_@%+=:,./-]/
const ALPHANUMERIC = /[A-Za-z0-9]/
const UNPRINTABLE = /[^\t\n\x20-\x7e]/

/** Words that open or close shell syntax where a command name is expected. */
const RESERVED = new Set(
  '! [ [[ ]] { } case coproc do done elif else esac fi for function if in select then time until while'.split(' ')
)

type Operator = '&&' | '||' | '|' | ';' | '\n'
type Token = { readonly word: string } | { readonly operator: Operator }

/**
 * Reads a script of the closed grammar: plain and quoted words, `&&`, `||`, `|`, `;` and newlines. Everything else that a
 * shell would interpret (expansion, redirection, globs, groups, assignments, comments, reserved words) is refused.
 *
 * @returns the simple commands in order, at least one, or why the script is outside the grammar.
 */
export function readScript(script: string): readonly SimpleCommand[] | Refusal {
  if (script.length > MAX_SCRIPT_CHARS) return refuse(`the command is longer than ${MAX_SCRIPT_CHARS} characters`)
  // CR, VT, NBSP and look-alikes separate words for some parsers and reviewers, never for bash.
  if (UNPRINTABLE.test(script)) return refuse('the command holds characters other than printable ASCII')
  const tokens = tokenize(script)
  return isRefusal(tokens) ? tokens : group(tokens)
}

function tokenize(script: string): readonly Token[] | Refusal {
  const tokens: Token[] = []
  let at = 0
  while (at < script.length) {
    const char = script.charAt(at)
    if (char === ' ' || char === '\t') {
      at += 1
      continue
    }
    const operator = operatorAt(script, at)
    if (operator !== undefined) {
      tokens.push({ operator })
      at += operator.length
      continue
    }
    const read = readWord(script, at)
    if (isRefusal(read)) return read
    tokens.push({ word: read.word })
    at = read.end
  }
  return tokens
}

function operatorAt(script: string, at: number): Operator | undefined {
  const char = script.charAt(at)
  const next = script.charAt(at + 1)
  if (char === '&') return next === '&' ? '&&' : undefined
  if (char === '|') return next === '|' ? '||' : '|'
  return char === ';' || char === '\n' ? char : undefined
}

interface WordRead {
  readonly word: string
  readonly end: number
}

function readWord(script: string, start: number): WordRead | Refusal {
  let word = ''
  let at = start
  while (at < script.length) {
    const char = script.charAt(at)
    if (' \t\n;&|'.includes(char)) break
    if (char === "'") {
      const end = script.indexOf("'", at + 1)
      if (end < 0) return refuse('a single quote is not closed')
      word += script.slice(at + 1, end)
      at = end + 1
    } else if (char === '"') {
      const quoted = readDoubleQuoted(script, at + 1)
      if (isRefusal(quoted)) return quoted
      word += quoted.word
      at = quoted.end
    } else if (isPlain(script, at, start)) {
      word += char
      at += 1
    } else {
      return refuse(`the shell would interpret "${char}"`)
    }
  }
  return at === start ? refuse('a single & starts a background command') : { word, end: at }
}

function isPlain(script: string, at: number, start: number): boolean {
  const char = script.charAt(at)
  // zsh replaces a leading =name by the path of a program.
  if (char === '=' && at === start) return false
  // HEAD~3 and HEAD^ are plain; a tilde at the start of a word, or after = or :, is somebody's home.
  if (char === '~' || char === '^') return at > start && ALPHANUMERIC.test(script.charAt(at - 1))
  return PLAIN.test(char)
}

function readDoubleQuoted(script: string, start: number): WordRead | Refusal {
  let word = ''
  let at = start
  while (at < script.length) {
    const char = script.charAt(at)
    if (char === '"') return { word, end: at + 1 }
    if (char === '$' || char === '`' || char === '!') return refuse(`"${char}" is interpreted inside double quotes`)
    if (char === '\\') {
      const next = script.charAt(at + 1)
      if (next === '' || '$`\n!'.includes(next)) return refuse('a backslash hides an expansion or joins lines')
      word += next === '"' || next === '\\' ? next : `\\${next}`
      at += 2
    } else {
      word += char
      at += 1
    }
  }
  return refuse('a double quote is not closed')
}

function group(tokens: readonly Token[]): readonly SimpleCommand[] | Refusal {
  const commands: SimpleCommand[] = []
  let argv: string[] = []
  let before: Operator | undefined
  for (const token of [...tokens, { operator: '\n' } as const]) {
    if ('word' in token) {
      argv.push(token.word)
      continue
    }
    if (argv.length === 0) {
      // A newline may follow any operator; any other operator needs a command before it.
      if (token.operator === '\n') continue
      return refuse(`there is no command before "${token.operator}"`)
    }
    const problem = commandProblem(argv)
    if (problem !== undefined) return refuse(problem)
    commands.push({ argv, piped: before === '|' })
    argv = []
    before = token.operator
  }
  if (before === '&&' || before === '||' || before === '|') return refuse(`there is no command after "${before}"`)
  if (commands.length === 0) return refuse('there is no command')
  if (commands.length > MAX_SIMPLE_COMMANDS) return refuse(`there are more than ${MAX_SIMPLE_COMMANDS} commands`)
  return commands
}

function commandProblem(argv: readonly string[]): string | undefined {
  const name = argv[0]
  if (name === undefined || name === '') return 'the command name is empty'
  if (name.includes('=')) return 'the command starts with an assignment'
  if (name.startsWith('%')) return 'the command names a job'
  return RESERVED.has(name) ? `"${name}" is shell syntax` : undefined
}
