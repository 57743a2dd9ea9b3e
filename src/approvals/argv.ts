import { type Refusal, refuse } from './request.ts'

/** How one word of a command line may look. A `path` is also held to the read scope, a `revision` is git's. */
export type WordRule =
  | { readonly is: 'text' }
  | { readonly is: 'path' }
  | { readonly is: 'revision' }
  | { readonly is: 'match'; readonly pattern: RegExp; readonly what: string }

export interface OperandRule {
  /** The operands that must stand first, in order. */
  readonly lead?: readonly WordRule[]
  /** Flags that take the place of the lead: `grep -e PATTERN`. */
  readonly leadGivenBy?: readonly string[]
  /** The operands after the lead; without it there are none. */
  readonly rest?: WordRule
  readonly min?: number
  readonly max?: number
  /** `min` falls away when a pipe feeds standard input; without one the program would wait for ever. */
  readonly stdin?: boolean
  /** Flags without which no operand may stand: `git branch NAME` creates a branch, `git branch --list NAME` does not. */
  readonly onlyWith?: readonly string[]
}

/** The whole command line that is allowed for one program: what is not in here asks. */
export interface ProgramSpec {
  /** Flags without a value. `-abc` stands for `-a -b -c`; long ones are exact, never abbreviated. */
  readonly switches?: string
  /** Flags with a value in the same or the next word. */
  readonly values?: Readonly<Record<string, WordRule>>
  /** Flags whose value may be left out and is always attached: `--color=never`, `-U3`. */
  readonly attached?: Readonly<Record<string, WordRule>>
  /** Short flags with a value stand alone and the value is the next word: tree reads `-Px` as two flags. */
  readonly separate?: boolean
  /** `head -50`, `git log -5`. */
  readonly dashNumber?: boolean
  /** At least one of these must stand there. */
  readonly requires?: readonly string[]
  /** Words are printed, nothing else: no flag has an effect beyond that. */
  readonly freeform?: boolean
  readonly operands: OperandRule
  /** Descends into directories: always, or with one of these flags. */
  readonly walks?: 'always' | readonly string[]
  /** Reads what a directory holds when it is given one as an operand, following links. */
  readonly filesOnly?: boolean
}

/** What an allowed command line touches. */
export interface CommandUse {
  /** Words that name a file or directory, relative to the working directory. */
  readonly paths: readonly string[]
  /** Words that name something inside a repository (`HEAD:dir/file`): judged by name alone. */
  readonly names: readonly string[]
  readonly walks: boolean
  readonly filesOnly: boolean
}

interface Flags {
  readonly rules: ReadonlyMap<string, WordRule | 'switch'>
  readonly attached: ReadonlyMap<string, WordRule>
}

const compiled = new WeakMap<ProgramSpec, Flags>()

/** Checks the words after the program name against its spec. */
export function checkArguments(spec: ProgramSpec, args: readonly string[], piped: boolean): CommandUse | Refusal {
  if (spec.freeform === true) return { paths: [], names: [], walks: false, filesOnly: false }
  return new ArgumentReader(spec, args, piped).read()
}

class ArgumentReader {
  readonly #spec: ProgramSpec
  readonly #args: readonly string[]
  readonly #piped: boolean
  readonly #flags: Flags
  readonly #seen = new Set<string>()
  readonly #operands: string[] = []
  readonly #paths: string[] = []
  readonly #names: string[] = []
  #at = 0

  constructor(spec: ProgramSpec, args: readonly string[], piped: boolean) {
    this.#spec = spec
    this.#args = args
    this.#piped = piped
    this.#flags = flagsOf(spec)
  }

  read(): CommandUse | Refusal {
    const problem = this.#readWords() ?? this.#checkRequired() ?? this.#checkOperands()
    if (problem !== undefined) return refuse(problem)
    return {
      paths: this.#paths,
      names: this.#names,
      walks: this.#walks(),
      filesOnly: this.#spec.filesOnly ?? false
    }
  }

  #walks(): boolean {
    const { walks } = this.#spec
    return walks === 'always' || this.#hasSeen(walks)
  }

  #hasSeen(flags: readonly string[] | undefined): boolean {
    return flags?.some((flag) => this.#seen.has(flag)) ?? false
  }

  #readWords(): string | undefined {
    let dashes = -1
    while (this.#at < this.#args.length) {
      const word = this.#args[this.#at] as string
      this.#at += 1
      if (word === '-' || !word.startsWith('-')) this.#operands.push(word)
      else if (dashes >= 0) {
        // A program that takes `--` for the value of the flag before it would read this word as a flag.
        if (this.#args[dashes - 1]?.startsWith('-') === true) return `the argument "${word}" looks like a flag`
        this.#operands.push(word)
      } else if (word === '--') dashes = this.#at - 1
      else {
        const problem = word.startsWith('--') ? this.#readLong(word) : this.#readShort(word)
        if (problem !== undefined) return problem
      }
    }
    return undefined
  }

  #readLong(word: string): string | undefined {
    const equals = word.indexOf('=')
    const flag = equals < 0 ? word : word.slice(0, equals)
    const attached = this.#flags.attached.get(flag)
    const rule = this.#flags.rules.get(flag)
    if (attached === undefined && rule === undefined) return `the flag ${flag} is not on the list`
    this.#seen.add(flag)
    if (equals >= 0) {
      const valueRule = attached ?? rule
      if (valueRule === undefined || valueRule === 'switch') return `the flag ${flag} takes no value here`
      return this.#checkWord(valueRule, word.slice(equals + 1), flag)
    }
    if (attached !== undefined || rule === undefined || rule === 'switch') return undefined
    return this.#readNextValue(rule, flag)
  }

  #readShort(word: string): string | undefined {
    if (this.#spec.dashNumber === true && /^-\d{1,9}$/.test(word)) return undefined
    for (let index = 1; index < word.length; index += 1) {
      const flag = `-${word.charAt(index)}`
      const rest = word.slice(index + 1)
      const attached = this.#flags.attached.get(flag)
      const rule = this.#flags.rules.get(flag)
      if (attached === undefined && rule === undefined) return `the flag ${flag} is not on the list`
      this.#seen.add(flag)
      if (attached !== undefined) return rest === '' ? undefined : this.#checkWord(attached, rest, flag)
      if (rule === undefined || rule === 'switch') continue
      if (this.#spec.separate === true && word.length > 2) return `the flag ${flag} must stand alone`
      return rest === '' ? this.#readNextValue(rule, flag) : this.#checkWord(rule, rest, flag)
    }
    return undefined
  }

  #readNextValue(rule: WordRule, flag: string): string | undefined {
    const value = this.#args[this.#at]
    this.#at += 1
    if (value === undefined) return `the flag ${flag} lacks its value`
    // A program whose flag takes no value would read this word as a flag.
    if (rule.is !== 'match' && value.length > 1 && value.startsWith('-'))
      return `the value of ${flag} looks like a flag`
    return this.#checkWord(rule, value, flag)
  }

  #checkRequired(): string | undefined {
    const { requires } = this.#spec
    if (requires === undefined || this.#hasSeen(requires)) return undefined
    return `only with ${requires.join(' or ')}`
  }

  #checkOperands(): string | undefined {
    const {
      lead = [],
      leadGivenBy,
      rest,
      min = 0,
      max = Number.POSITIVE_INFINITY,
      stdin,
      onlyWith
    } = this.#spec.operands
    const rules = this.#hasSeen(leadGivenBy) ? [] : lead
    const after = this.#operands.length - rules.length
    const waived = (this.#piped && stdin === true) || this.#walks()
    if (after < (waived ? 0 : min)) return 'an argument is missing'
    if (after > max || (after > 0 && rest === undefined)) return 'there are more arguments than a read-only use takes'
    if (this.#operands.length > 0 && onlyWith !== undefined && !this.#hasSeen(onlyWith)) {
      return `arguments are allowed with ${onlyWith.join(' or ')} alone`
    }
    for (const [index, word] of this.#operands.entries()) {
      const problem = this.#checkWord(rules[index] ?? (rest as WordRule), word, 'the argument')
      if (problem !== undefined) return problem
    }
    return undefined
  }

  #checkWord(rule: WordRule, word: string, where: string): string | undefined {
    if (rule.is === 'text') return undefined
    if (rule.is === 'match') return rule.pattern.test(word) ? undefined : `${where} "${word}" is not ${rule.what}`
    if (word === '' || word === '-') return `${where} "${word}" is not a file name`
    if (rule.is === 'path') this.#paths.push(word)
    else return this.#checkRevision(word)
    return undefined
  }

  /** A git word is a revision, a path, or `revision:path`; each part is checked as a path, which is the stricter reading. */
  #checkRevision(word: string): string | undefined {
    const colon = word.indexOf(':')
    if (colon === 0) return `"${word}" is a pathspec with magic`
    this.#paths.push(word)
    if (colon < 0) return undefined
    const path = word.slice(colon + 1)
    if (path.startsWith('/') || path.split('/').includes('..')) return `"${word}" leaves the repository`
    this.#names.push(path)
    return undefined
  }
}

function flagsOf(spec: ProgramSpec): Flags {
  const known = compiled.get(spec)
  if (known !== undefined) return known
  const rules = new Map<string, WordRule | 'switch'>()
  for (const word of (spec.switches ?? '').split(' ').filter((part) => part !== '')) {
    if (word.startsWith('--')) rules.set(word, 'switch')
    else for (const letter of word.slice(1)) rules.set(`-${letter}`, 'switch')
  }
  for (const [flag, rule] of Object.entries(spec.values ?? {})) rules.set(flag, rule)
  const flags = { rules, attached: new Map(Object.entries(spec.attached ?? {})) }
  compiled.set(spec, flags)
  return flags
}
