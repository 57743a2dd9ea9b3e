import type { ProgramSpec } from './argv.ts'
import { FIELDS, match, NUMBER, oneOf, PATH, TEXT, WHEN, WORD } from './word-rules.ts'

const FILES = { rest: PATH, min: 1, stdin: true } as const
const NO_OPERANDS = {} as const
const CHECKSUM: ProgramSpec = { switches: '-bt --binary --text --tag --zero', operands: FILES }
/** `%s` and plain text alone: bash's `%n` and `-v` assign, and evaluate array subscripts while they do. */
const PRINTF_FORMAT = match(/^(?:[A-Za-z0-9 _.,:;=/|+*#()<>[\]-]|%s|%%|\\n|\\t)+$/, 'plain text with %s')
const TIME_STYLE = oneOf('full-iso', 'long-iso', 'iso', 'locale')

/** Programs that print files, names or facts. Left out on purpose: every flag that writes, runs, follows or waits. */
export const TEXT_PROGRAMS: Readonly<Record<string, ProgramSpec>> = {
  // -L and -H follow links that a recursive listing would meet.
  ls: {
    switches:
      '-aAbBcCdfFgGhiklmnNopqQrRsStuUvxX1Z --all --almost-all --author --escape --directory --classify ' +
      '--group-directories-first --no-group --human-readable --inode --size --reverse --recursive --si --full-time',
    values: {
      '-I': TEXT,
      '--ignore': TEXT,
      '--hide': TEXT,
      '-w': NUMBER,
      '-T': NUMBER,
      '--sort': WORD,
      '--time': WORD,
      '--time-style': TIME_STYLE,
      '--format': WORD,
      '--block-size': WORD,
      '--indicator-style': WORD,
      '--quoting-style': WORD
    },
    attached: { '--color': WHEN },
    operands: { rest: PATH },
    walks: ['-R', '--recursive']
  },
  cat: {
    switches:
      '-AbeEnstTuv --show-all --number --number-nonblank --show-ends --show-tabs --show-nonprinting --squeeze-blank',
    operands: FILES
  },
  tac: { switches: '-br --before --regex', values: { '-s': TEXT, '--separator': TEXT }, operands: FILES },
  rev: { operands: FILES },
  head: {
    switches: '-qvz --quiet --silent --verbose --zero-terminated',
    values: { '-n': NUMBER, '-c': NUMBER, '--lines': NUMBER, '--bytes': NUMBER },
    dashNumber: true,
    operands: FILES
  },
  // -f, -F and --follow never end.
  tail: {
    switches: '-qvz --quiet --silent --verbose --zero-terminated',
    values: { '-n': NUMBER, '-c': NUMBER, '--lines': NUMBER, '--bytes': NUMBER },
    dashNumber: true,
    operands: FILES
  },
  nl: {
    switches: '-p --no-renumber',
    values: {
      '-b': TEXT,
      '-f': TEXT,
      '-h': TEXT,
      '-d': TEXT,
      '-n': WORD,
      '-s': TEXT,
      '-w': NUMBER,
      '-v': NUMBER,
      '-i': NUMBER,
      '-l': NUMBER,
      '--body-numbering': TEXT,
      '--number-format': WORD,
      '--number-separator': TEXT,
      '--number-width': NUMBER,
      '--starting-line-number': NUMBER
    },
    operands: FILES
  },
  // --files0-from opens what a file names.
  wc: { switches: '-clmwL --bytes --chars --lines --words --max-line-length', operands: FILES },
  // -o writes, --compress-program runs, -T and --files0-from reach other places.
  sort: {
    switches:
      '-bcCdfghiMnRrsuVz --ignore-leading-blanks --check --dictionary-order --ignore-case --general-numeric-sort ' +
      '--human-numeric-sort --month-sort --numeric-sort --reverse --stable --unique --version-sort --zero-terminated',
    values: { '-k': FIELDS, '--key': FIELDS, '-t': TEXT, '--field-separator': TEXT, '--sort': WORD },
    operands: FILES
  },
  // A second operand is an output file.
  uniq: {
    switches: '-cdDiuz --count --repeated --unique --ignore-case --zero-terminated',
    values: {
      '-f': NUMBER,
      '-s': NUMBER,
      '-w': NUMBER,
      '--skip-fields': NUMBER,
      '--skip-chars': NUMBER,
      '--check-chars': NUMBER
    },
    operands: { ...FILES, max: 1 }
  },
  cut: {
    switches: '-nsz --complement --only-delimited --zero-terminated',
    values: {
      '-b': FIELDS,
      '-c': FIELDS,
      '-d': TEXT,
      '-f': FIELDS,
      '--bytes': FIELDS,
      '--characters': FIELDS,
      '--delimiter': TEXT,
      '--fields': FIELDS,
      '--output-delimiter': TEXT
    },
    operands: FILES
  },
  paste: {
    switches: '-sz --serial --zero-terminated',
    values: { '-d': TEXT, '--delimiters': TEXT },
    operands: FILES
  },
  fold: { switches: '-bs --bytes --spaces', values: { '-w': NUMBER, '--width': NUMBER }, operands: FILES },
  expand: { switches: '-i --initial', values: { '-t': FIELDS, '--tabs': FIELDS }, operands: FILES },
  unexpand: { switches: '-a --all --first-only', values: { '-t': FIELDS, '--tabs': FIELDS }, operands: FILES },
  tr: {
    switches: '-cCdst --complement --delete --squeeze-repeats --truncate-set1',
    operands: { lead: [TEXT], rest: TEXT, max: 1 }
  },
  comm: {
    switches: '-123z --check-order --nocheck-order --total --zero-terminated',
    values: { '--output-delimiter': TEXT },
    operands: { lead: [PATH, PATH] }
  },
  cmp: {
    switches: '-bls --print-bytes --verbose --quiet --silent',
    values: { '-n': NUMBER, '--bytes': NUMBER },
    operands: { lead: [PATH, PATH] },
    filesOnly: true
  },
  // -r and directories follow links; -l runs pr; --from-file and --to-file read more than the operands.
  diff: {
    switches:
      '-abBcdeEiNnpqstTuwyZ --text --ignore-space-change --ignore-blank-lines --minimal --ed --ignore-tab-expansion ' +
      '--ignore-case --new-file --rcs --show-c-function --brief --report-identical-files --expand-tabs --initial-tab ' +
      '--ignore-all-space --side-by-side --ignore-trailing-space --suppress-common-lines --strip-trailing-cr --normal',
    values: { '-C': NUMBER, '-U': NUMBER, '-I': TEXT, '-W': NUMBER, '--width': NUMBER, '--label': TEXT },
    attached: { '--color': WHEN, '--unified': NUMBER, '--context': NUMBER },
    operands: { lead: [PATH, PATH] },
    filesOnly: true
  },
  // -C compiles a magic file, -m loads one, -f reads names from a file, -z runs decompressors.
  file: {
    switches:
      '-0bhiLNkr --brief --no-dereference --mime --mime-type --mime-encoding --dereference --extension --no-pad',
    operands: { rest: PATH, min: 1 }
  },
  stat: {
    switches: '-fLt --file-system --dereference --terse',
    values: { '-c': TEXT, '--format': TEXT, '--printf': TEXT },
    operands: { rest: PATH, min: 1 }
  },
  // -L, -D and -H follow links; --files0-from and -X read other lists.
  du: {
    switches:
      '-0abchklmPsSx --all --apparent-size --bytes --total --human-readable --summarize --separate-dirs --si ' +
      '--one-file-system --no-dereference --null --inodes',
    values: { '-d': NUMBER, '--max-depth': NUMBER, '-B': WORD, '--block-size': WORD, '-t': NUMBER, '--exclude': TEXT },
    attached: { '--time': WORD },
    operands: { rest: PATH },
    walks: 'always'
  },
  // -o writes, -l follows links, --fromfile and --info read other files.
  tree: {
    switches:
      '-aACdDfFghiJnNpqQrstuUvXS --dirsfirst --noreport --prune --du --si --gitignore --ignore-case --matchdirs --inodes',
    values: { '-L': NUMBER, '-I': TEXT, '-P': TEXT },
    separate: true,
    operands: { rest: PATH },
    walks: 'always'
  },
  od: {
    switches: '-abcdfhilosvx',
    values: { '-A': WORD, '-j': NUMBER, '-N': NUMBER, '-t': WORD, '-w': NUMBER },
    operands: FILES
  },
  hexdump: { switches: '-bcCdovx', values: { '-n': NUMBER, '-s': NUMBER }, operands: FILES },
  strings: { switches: '-af', values: { '-n': NUMBER, '-t': WORD }, operands: FILES },
  base64: {
    switches: '-di --decode --ignore-garbage',
    values: { '-w': NUMBER, '--wrap': NUMBER },
    operands: { ...FILES, max: 1 }
  },
  cksum: { operands: FILES },
  md5sum: CHECKSUM,
  sha1sum: CHECKSUM,
  sha256sum: CHECKSUM,
  sha512sum: CHECKSUM,
  realpath: {
    switches:
      '-eLmPqsz --canonicalize-existing --canonicalize-missing --logical --physical --quiet --no-symlinks --zero',
    operands: { rest: PATH, min: 1 }
  },
  readlink: {
    switches: '-efmnqsvz --canonicalize --canonicalize-existing --canonicalize-missing --no-newline --zero',
    operands: { rest: PATH, min: 1 }
  },
  basename: {
    switches: '-az --multiple --zero',
    values: { '-s': TEXT, '--suffix': TEXT },
    operands: { lead: [TEXT], rest: TEXT }
  },
  dirname: { switches: '-z --zero', operands: { lead: [TEXT], rest: TEXT } },
  echo: { freeform: true, operands: NO_OPERANDS },
  printf: { operands: { lead: [PRINTF_FORMAT], rest: TEXT } },
  seq: {
    switches: '-w --equal-width',
    values: { '-s': TEXT, '--separator': TEXT },
    operands: { lead: [NUMBER], rest: NUMBER, max: 2 }
  },
  expr: { operands: { lead: [TEXT], rest: TEXT } },
  // -s and a plain operand set the clock, -f reads dates from a file.
  date: {
    switches: '-uR --utc --universal --rfc-email',
    values: { '-d': TEXT, '--date': TEXT, '-r': PATH, '--reference': PATH, '--rfc-3339': WORD },
    attached: { '-I': WORD, '--iso-8601': WORD },
    operands: { rest: match(/^\+/, 'a +FORMAT'), max: 1 }
  },
  id: {
    switches: '-ugnGrz --user --group --groups --name --real --zero',
    operands: { rest: match(/^[a-z_][a-z0-9_-]{0,31}$/, 'a user name'), max: 1 }
  },
  uname: {
    switches:
      '-asnrvmpio --all --kernel-name --nodename --kernel-release --kernel-version --machine --processor ' +
      '--hardware-platform --operating-system',
    operands: NO_OPERANDS
  },
  which: { switches: '-a', operands: { lead: [WORD], rest: WORD } },
  pwd: { switches: '-LP', operands: NO_OPERANDS },
  whoami: { operands: NO_OPERANDS },
  arch: { operands: NO_OPERANDS },
  nproc: { switches: '--all', operands: NO_OPERANDS },
  true: { operands: NO_OPERANDS },
  false: { operands: NO_OPERANDS }
}
