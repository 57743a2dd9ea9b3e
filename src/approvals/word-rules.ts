import type { WordRule } from './argv.ts'

export const TEXT: WordRule = { is: 'text' }
export const PATH: WordRule = { is: 'path' }
export const REVISION: WordRule = { is: 'revision' }

export function match(pattern: RegExp, what: string): WordRule {
  return { is: 'match', pattern, what }
}

/** Exactly one of these words. */
export function oneOf(...words: readonly string[]): WordRule {
  return match(new RegExp(`^(?:${words.join('|')})$`), `one of ${words.join(', ')}`)
}

/** At most seven digits: `seq` and friends must not fill a disk or a journal. */
export const NUMBER = match(/^[+-]?\d{1,7}[bcwkKMG]?$/, 'a number')
export const WHEN = oneOf('always', 'never', 'auto')
/** Field and range lists of cut, sort and the like. */
export const FIELDS = match(/^[0-9A-Za-z,.+-]{1,64}$/, 'a list of fields')
export const WORD = match(/^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}$/, 'a plain word')
/** What rg and grep may be told to include: names that start with a dot are what ignore rules protect. */
export const FILE_GLOB = match(/^!?(?!\.|.*\/\.)[A-Za-z0-9_*?.,/{}-]+$/, 'a plain file pattern')
