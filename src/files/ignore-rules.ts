/** Of one search: an agent writes these files, and each entry is held against each rule. */
const MAX_RULES = 200
const MAX_RULE_CHARS = 256

type Token = { kind: 'star' } | { kind: 'one'; fits: (char: string) => boolean }
type Segment = { kind: 'star' } | { kind: 'one'; fits: (name: string) => boolean }

interface Rule {
  segments: Segment[]
  isNegated: boolean
  onlyDirectories: boolean
}

/** The rules of the `.gitignore` files from a root down to one directory; a later rule beats an earlier one. */
export class IgnoreRules {
  static readonly NONE = new IgnoreRules([])
  readonly #rules: readonly Rule[]

  private constructor(rules: readonly Rule[]) {
    this.#rules = rules
  }

  /** These rules and those of a `.gitignore` that lies in the directory with these names below the root. */
  with(text: string, directory: readonly string[]): IgnoreRules {
    const rules = text.split(/\r?\n/).flatMap((line) => parseRule(line, directory) ?? [])
    return new IgnoreRules([...this.#rules, ...rules].slice(0, MAX_RULES))
  }

  /** @param names of the entry, below the root */
  ignores(names: readonly string[], isDirectory: boolean): boolean {
    const fitting = this.#rules.findLast(
      (rule) => (isDirectory || !rule.onlyDirectories) && matches(rule.segments, names)
    )
    return fitting !== undefined && !fitting.isNegated
  }
}

function parseRule(line: string, directory: readonly string[]): Rule | undefined {
  const text = line.replace(/(?<!\\)\s+$/, '')
  if (text === '' || text.startsWith('#') || text.length > MAX_RULE_CHARS) return undefined
  const isNegated = text.startsWith('!')
  const pattern = isNegated ? text.slice(1) : text
  const onlyDirectories = pattern.endsWith('/')
  const body = onlyDirectories ? pattern.slice(0, -1) : pattern
  const own: Segment[] = body.replace(/^\//, '').split('/').map(parseSegment)
  const anywhere: Segment[] = body.includes('/') ? [] : [{ kind: 'star' }]
  const above = directory.map((name): Segment => ({ kind: 'one', fits: (other) => other === name }))
  return { segments: [...above, ...anywhere, ...own], isNegated, onlyDirectories }
}

function parseSegment(glob: string): Segment {
  if (glob === '**') return { kind: 'star' }
  const tokens = [...glob.matchAll(/\\(.)|\[(!|\^)?(\]?[^\]]*)\]|./gsu)].map(parseToken)
  return { kind: 'one', fits: (name) => matches(tokens, [...name]) }
}

function parseToken([text, escaped, negated, set]: RegExpMatchArray): Token {
  if (text === '*') return { kind: 'star' }
  if (text === '?') return { kind: 'one', fits: () => true }
  if (set !== undefined) return { kind: 'one', fits: (char) => isInSet(char, set) !== (negated !== undefined) }
  return { kind: 'one', fits: (char) => char === (escaped ?? text) }
}

function isInSet(char: string, set: string): boolean {
  return [...set.matchAll(/(.)-(.)|./gsu)].some(([one, from, to]) =>
    from === undefined || to === undefined ? char === one : from <= char && char <= to
  )
}

/**
 * Whether a pattern in which a star stands for any number of items fits all of them. No worse than their product: a
 * regular expression made of somebody else's pattern could hold the gateway for minutes.
 */
function matches<T>(
  pattern: readonly ({ kind: 'star' } | { kind: 'one'; fits: (item: T) => boolean })[],
  items: readonly T[]
): boolean {
  let [p, i, star, resume] = [0, 0, -1, 0]
  while (i < items.length) {
    const part = pattern[p]
    if (part?.kind === 'one' && part.fits(items[i] as T)) {
      p++
      i++
    } else if (part?.kind === 'star') {
      star = p++
      resume = i
    } else if (star >= 0) {
      p = star + 1
      i = ++resume
    } else return false
  }
  while (pattern[p]?.kind === 'star') p++
  return p === pattern.length
}
