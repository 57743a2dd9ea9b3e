export interface FuzzyMatch {
  score: number
  /** Positions in the path, counted in Unicode characters. */
  indices: number[]
}

/** Hostile names must not cost more than honest ones. */
const MAX_PATH_CHARS = 1_024
const MAX_STARTS = 16
const CHAR_SCORE = 16
const ADJACENT_BONUS = 8
const WORD_START_BONUS = 8
const NAME_BONUS = 4
const BOUNDARY = /[/\\\-_. ]/

/**
 * Matches paths that have the query's words as subsequences: letters that stand together, at the start of a word or in
 * the file's name count more. Capitals in the query make it case-sensitive. Undefined for an empty query.
 */
export function fuzzyMatcher(query: string): ((path: string) => FuzzyMatch | undefined) | undefined {
  const words = query.split(/\s+/).filter((word) => word !== '')
  if (words.length === 0) return undefined
  const fold = query === query.toLowerCase() ? (text: string) => text.toLowerCase() : (text: string) => text
  const wanted = words.map((word) => [...word])
  return (path) => {
    const chars = [...path]
    if (chars.length > MAX_PATH_CHARS) return undefined
    const folded = chars.map(fold)
    const matches = wanted.map((word) => bestMatch(word, folded))
    return matches.includes(undefined) ? undefined : join(matches as FuzzyMatch[])
  }
}

function join(matches: FuzzyMatch[]): FuzzyMatch {
  const indices = [...new Set(matches.flatMap((match) => match.indices))].sort((a, b) => a - b)
  return { score: matches.reduce((sum, { score }) => sum + score, 0), indices }
}

function bestMatch(word: readonly string[], chars: readonly string[]): FuzzyMatch | undefined {
  let best: FuzzyMatch | undefined
  let start = chars.indexOf(word[0] as string)
  for (let tried = 0; start >= 0 && tried < MAX_STARTS; tried++) {
    const indices = indicesFrom(start, word, chars)
    // What does not fit from here does not fit from further right.
    if (indices === undefined) break
    const score = scoreOf(indices, chars)
    if (best === undefined || score > best.score) best = { score, indices }
    start = chars.indexOf(word[0] as string, start + 1)
  }
  return best
}

function indicesFrom(start: number, word: readonly string[], chars: readonly string[]): number[] | undefined {
  const indices: number[] = []
  let at = start
  for (const char of word) {
    at = chars.indexOf(char, at)
    if (at < 0) return undefined
    indices.push(at++)
  }
  return indices
}

function scoreOf(indices: readonly number[], chars: readonly string[]): number {
  const nameStart = chars.lastIndexOf('/') + 1
  return indices.reduce((score, at, n) => {
    const isAdjacent = n > 0 && indices[n - 1] === at - 1
    const isWordStart = at === 0 || BOUNDARY.test(chars[at - 1] as string)
    const bonus = (isAdjacent ? ADJACENT_BONUS : 0) + (isWordStart ? WORD_START_BONUS : 0)
    return score + CHAR_SCORE + bonus + (at >= nameStart ? NAME_BONUS : 0)
  }, 0)
}
