import type { CommandUse, WordRule } from './argv.ts'
import { type Refusal, refuse } from './request.ts'
import { match, NUMBER, TEXT, WORD } from './word-rules.ts'

const COUNT = match(/^[+-]?\d{1,9}(?:\.\d{1,3})?[a-zA-Z]?$/, 'a number')
const FILE_TYPES = match(/^[bcdpfls](?:,[bcdpfls])*$/, 'a file type')
const PERMISSIONS = match(/^[/-]?[0-7ugoarwxXst+=,-]{1,32}$/, 'permissions')
const REFERENCE: WordRule = { is: 'path' }

/**
 * The tests and printing actions of find; `null` takes no value. Not here, and so asked: -exec, -execdir, -ok, -okdir,
 * -delete, -fprint, -fprint0, -fprintf, -fls, -files0-from, -D, and whatever follows links (-L, -H, -follow).
 */
const EXPRESSION: Readonly<Record<string, WordRule | null>> = {
  '!': null,
  '(': null,
  ')': null,
  ',': null,
  '-a': null,
  '-and': null,
  '-daystart': null,
  '-depth': null,
  '-empty': null,
  '-executable': null,
  '-false': null,
  '-ls': null,
  '-mount': null,
  '-nogroup': null,
  '-noleaf': null,
  '-not': null,
  '-nouser': null,
  '-o': null,
  '-or': null,
  '-print': null,
  '-print0': null,
  '-prune': null,
  '-quit': null,
  '-readable': null,
  '-true': null,
  '-writable': null,
  '-xdev': null,
  '-amin': COUNT,
  '-anewer': REFERENCE,
  '-atime': COUNT,
  '-cmin': COUNT,
  '-cnewer': REFERENCE,
  '-ctime': COUNT,
  '-gid': COUNT,
  '-group': WORD,
  '-ilname': TEXT,
  '-iname': TEXT,
  '-inum': COUNT,
  '-ipath': TEXT,
  '-iregex': TEXT,
  '-iwholename': TEXT,
  '-links': COUNT,
  '-lname': TEXT,
  '-maxdepth': NUMBER,
  '-mindepth': NUMBER,
  '-mmin': COUNT,
  '-mtime': COUNT,
  '-name': TEXT,
  '-newer': REFERENCE,
  '-newermt': TEXT,
  '-path': TEXT,
  '-perm': PERMISSIONS,
  '-printf': TEXT,
  '-regex': TEXT,
  '-regextype': WORD,
  '-samefile': REFERENCE,
  '-size': COUNT,
  '-type': FILE_TYPES,
  '-uid': COUNT,
  '-user': WORD,
  '-wholename': TEXT
}

/** Checks find's own grammar: starting points first, then tests, operators and printing actions from the table. */
export function checkFind(args: readonly string[]): CommandUse | Refusal {
  const paths: string[] = []
  let at = args[0] === '-P' ? 1 : 0
  for (; at < args.length && !startsExpression(args[at] as string); at += 1) paths.push(args[at] as string)
  while (at < args.length) {
    const word = args[at] as string
    const rule = Object.hasOwn(EXPRESSION, word) ? EXPRESSION[word] : undefined
    if (rule === undefined) return refuse(`find's "${word}" is not on the list`)
    at += 1
    if (rule === null) continue
    const value = args[at]
    at += 1
    if (value === undefined) return refuse(`find's ${word} lacks its value`)
    if (rule.is === 'match' && !rule.pattern.test(value)) return refuse(`find's ${word} "${value}" is not ${rule.what}`)
    if (rule.is === 'path') paths.push(value)
  }
  if (paths.includes('')) return refuse('find has an empty starting point')
  return { paths, names: [], walks: true, filesOnly: false }
}

function startsExpression(word: string): boolean {
  return word.startsWith('-') || word === '(' || word === ')' || word === '!' || word === ','
}
