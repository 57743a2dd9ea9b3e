import type { ProgramSpec } from './argv.ts'
import { FILE_GLOB, match, NUMBER, oneOf, PATH, TEXT, WHEN, WORD } from './word-rules.ts'

/** The one sed that codex itself calls safe: `sed -n 5p FILE`, `sed -n 1,80p FILE`. Every other script can write or run. */
const PRINT_LINES = match(/^[0-9]{1,9}(?:,[0-9]{1,9})?p$/, 'N[,M]p')
const BINARY_FILES = oneOf('binary', 'text', 'without-match')

/** -R follows links, -D and -d change what is opened, --exclude-from reads another list. */
const GREP: ProgramSpec = {
  switches:
    '-abcEFGhHiIlLnoPqrsTUvwxyzZ --text --byte-offset --count --extended-regexp --fixed-strings --basic-regexp ' +
    '--no-filename --with-filename --ignore-case --no-ignore-case --files-with-matches --files-without-match ' +
    '--line-number --only-matching --perl-regexp --quiet --silent --recursive --no-messages --initial-tab ' +
    '--invert-match --word-regexp --line-regexp --null --null-data --line-buffered',
  values: {
    '-A': NUMBER,
    '-B': NUMBER,
    '-C': NUMBER,
    '-m': NUMBER,
    '-e': TEXT,
    '-f': PATH,
    '--after-context': NUMBER,
    '--before-context': NUMBER,
    '--context': NUMBER,
    '--max-count': NUMBER,
    '--regexp': TEXT,
    '--file': PATH,
    '--include': FILE_GLOB,
    '--exclude': TEXT,
    '--exclude-dir': TEXT,
    '--label': TEXT,
    '--binary-files': BINARY_FILES
  },
  attached: { '--color': WHEN, '--colour': WHEN },
  dashNumber: true,
  operands: {
    lead: [TEXT],
    leadGivenBy: ['-e', '-f', '--regexp', '--file'],
    rest: PATH,
    min: 1,
    stdin: true
  },
  walks: ['-r', '--recursive']
}

/**
 * --pre and --hostname-bin run a program, -z runs decompressors, -L follows links, --ignore-file and --config read other
 * files, --hidden and -u search what ignore rules keep out.
 */
const RIPGREP: ProgramSpec = {
  switches:
    '-0aFhHiIlnNoPpqsSUvwx --text --case-sensitive --ignore-case --smart-case --column --no-column --count-matches ' +
    '--crlf --debug --files-with-matches --files-without-match --fixed-strings --no-fixed-strings --heading --no-heading ' +
    '--invert-match --json --line-buffered --line-number --no-line-number --line-regexp --max-columns-preview ' +
    '--multiline --multiline-dotall --no-config --no-filename --with-filename --no-messages --null --null-data ' +
    '--one-file-system --only-matching --passthru --pcre2 --pretty --quiet --stats --trim --type-list --no-mmap ' +
    '--vimgrep --word-regexp --count --glob-case-insensitive --files --byte-offset --include-zero --no-unicode -bc',
  values: {
    '-A': NUMBER,
    '-B': NUMBER,
    '-C': NUMBER,
    '-m': NUMBER,
    '-M': NUMBER,
    '-j': NUMBER,
    '-d': NUMBER,
    '-e': TEXT,
    '-f': PATH,
    '-g': FILE_GLOB,
    '-r': TEXT,
    '-t': WORD,
    '-T': WORD,
    '-E': WORD,
    '--after-context': NUMBER,
    '--before-context': NUMBER,
    '--context': NUMBER,
    '--max-count': NUMBER,
    '--max-columns': NUMBER,
    '--max-depth': NUMBER,
    '--max-filesize': WORD,
    '--threads': NUMBER,
    '--regexp': TEXT,
    '--file': PATH,
    '--glob': FILE_GLOB,
    '--iglob': FILE_GLOB,
    '--replace': TEXT,
    '--type': WORD,
    '--type-not': WORD,
    '--encoding': WORD,
    '--sort': WORD,
    '--sortr': WORD,
    '--color': oneOf('always', 'never', 'auto', 'ansi'),
    '--context-separator': TEXT,
    '--field-context-separator': TEXT,
    '--field-match-separator': TEXT
  },
  dashNumber: false,
  operands: {
    lead: [TEXT],
    leadGivenBy: ['-e', '-f', '--regexp', '--file', '--files', '--type-list'],
    rest: PATH
  },
  walks: 'always'
}

export const SEARCH_PROGRAMS: Readonly<Record<string, ProgramSpec>> = {
  grep: GREP,
  egrep: GREP,
  fgrep: GREP,
  rg: RIPGREP,
  sed: {
    switches: '-n --quiet --silent',
    requires: ['-n', '--quiet', '--silent'],
    operands: { lead: [PRINT_LINES], rest: PATH, min: 1, max: 1, stdin: true }
  }
}
