import { type CommandUse, checkArguments, type ProgramSpec } from './argv.ts'
import { checkFind } from './find.ts'
import { GIT_PROGRAMS } from './programs-git.ts'
import { SEARCH_PROGRAMS } from './programs-search.ts'
import { TEXT_PROGRAMS } from './programs-text.ts'
import { type Refusal, refuse } from './request.ts'
import type { SimpleCommand } from './shell.ts'

const PROGRAMS: ReadonlyMap<string, ProgramSpec> = new Map(Object.entries({ ...TEXT_PROGRAMS, ...SEARCH_PROGRAMS }))
/** Kept apart: a program whose file name is "git status" is not git. */
const GIT: ReadonlyMap<string, ProgramSpec> = new Map(Object.entries(GIT_PROGRAMS))
const TRUSTED_DIRECTORIES = ['/usr/bin/', '/bin/']
/** Subcommands that only their own subcommand makes read-only. */
const TWO_WORD_SUBCOMMANDS = new Set(['stash', 'worktree'])

/** A command line that the table allows, and the entry that allowed it (`ls`, `git log`). */
export interface KnownCommand {
  readonly entry: string
  readonly use: CommandUse
}

/**
 * The name a program is judged by: bare names and files directly in /bin and /usr/bin. Any other path is its own name,
 * which no table knows: a basename says nothing about a file that somebody else may have put there.
 */
export function programName(word: string): string {
  for (const directory of TRUSTED_DIRECTORIES) {
    const name = word.startsWith(directory) ? word.slice(directory.length) : ''
    if (name !== '' && !name.includes('/')) return name
  }
  return word
}

/** The table entry for these words, whether or not its flags and operands are allowed. */
export function entryFor(argv: readonly string[]): string | undefined {
  const name = programName(argv[0] ?? '')
  if (name === 'find') return 'find'
  if (name !== 'git') return PROGRAMS.has(name) ? name : undefined
  const words = TWO_WORD_SUBCOMMANDS.has(argv[1] ?? '') ? 3 : 2
  const entry = ['git', ...argv.slice(1, words)].join(' ')
  return argv.length >= words && GIT.has(entry) ? entry : undefined
}

/** Checks one simple command against the table: program, every flag, every operand. Paths are left to the caller's scope. */
export function checkCommand({ argv, piped }: SimpleCommand): KnownCommand | Refusal {
  const entry = entryFor(argv)
  if (entry === undefined) return refuse(`"${describe(argv)}" is not on the list of read-only programs`)
  const spec = PROGRAMS.get(entry) ?? GIT.get(entry)
  const args = argv.slice(entry.split(' ').length)
  const use = spec === undefined ? checkFind(args) : checkArguments(spec, args, piped)
  return 'refusal' in use ? refuse(`${entry}: ${use.refusal}`) : { entry, use }
}

function describe(argv: readonly string[]): string {
  return programName(argv[0] ?? '') === 'git' ? argv.slice(0, 2).join(' ') : (argv[0] ?? '')
}
