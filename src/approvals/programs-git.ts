import type { ProgramSpec, WordRule } from './argv.ts'
import { match, NUMBER, oneOf, REVISION, TEXT, WHEN, WORD } from './word-rules.ts'

/**
 * Placeholders that git formats itself. `%G…` runs gpg; `%(trailers…)` and the like are not needed for reading.
 * Plain text around them is free.
 */
const PRETTY = match(
  /^(?:[^%]|%[+ -]?(?:[HhTtPpdDsfbBeNnmw%SR]|[ac][nNeElLdDrtisIhH]|g[dDsnNeE]|C(?:red|green|blue|reset)|C\([a-z0-9 #,-]+\)|x[0-9a-fA-F]{2}|[<>]{1,2}\|?\([^)%]*\)))*$/,
  'a format of plain placeholders'
)
const REF_FORMAT = match(
  /^(?:[^%]|%%|%\((?:refname|objectname|objecttype|objectsize|upstream|push|HEAD|subject|contents:subject|symref|worktreepath|(?:author|committer|creator|tagger)(?:name|email|date)?)(?::[a-zA-Z0-9=,_-]+)?\))*$/,
  'a format of plain placeholders'
)
const DATE_STYLE = match(/^[a-z0-9-]+$|^format:[^`$]*$/, 'a date style')
const FILTER = match(/^[A-Za-z*]{1,16}$/, 'a diff filter')
const SIMILARITY = match(/^\d{1,3}%?(?:\/\d{1,3}%?)?$/, 'a similarity')
const LINE_RANGE = match(/^\d{1,9},[+-]?\d{1,9}$/, 'N,M')

/** Left out on purpose: --output, --ext-diff, --textconv, --no-index, --submodule, --show-signature, -O, --stdin. */
const DIFF_SWITCHES =
  '-pusRabwzW --patch --no-patch --raw --patch-with-stat --patch-with-raw --minimal --patience --histogram --numstat ' +
  '--shortstat --summary --name-only --name-status --no-color --no-renames --check --full-index --binary --text ' +
  '--ignore-space-at-eol --ignore-cr-at-eol --ignore-space-change --ignore-all-space --ignore-blank-lines ' +
  '--function-context --exit-code --quiet --no-ext-diff --no-textconv --pickaxe-all --pickaxe-regex --no-prefix ' +
  '--compact-summary --cumulative --find-copies-harder --no-indent-heuristic --indent-heuristic'
const DIFF_VALUES: Readonly<Record<string, WordRule>> = {
  '-S': TEXT,
  '-G': TEXT,
  '-l': NUMBER,
  '--diff-filter': FILTER,
  '--inter-hunk-context': NUMBER
}
const DIFF_ATTACHED: Readonly<Record<string, WordRule>> = {
  '-B': SIMILARITY,
  '-C': SIMILARITY,
  '-M': SIMILARITY,
  '-U': NUMBER,
  '--abbrev': NUMBER,
  '--color': WHEN,
  '--color-moved': WORD,
  '--color-words': TEXT,
  '--dirstat': TEXT,
  '--find-copies': SIMILARITY,
  '--find-renames': SIMILARITY,
  '--relative': match(/^[A-Za-z0-9_/-]+$/, 'a directory'),
  '--stat': match(/^\d{1,4}(?:,\d{1,4}){0,2}$/, 'widths'),
  '--unified': NUMBER,
  '--word-diff': WORD
}

const LOG_SWITCHES =
  `${DIFF_SWITCHES} -cEFgimPt --oneline --graph --all --no-merges --merges --first-parent --reverse --follow ` +
  '--all-match --invert-grep --regexp-ignore-case --extended-regexp --fixed-strings --basic-regexp --perl-regexp ' +
  '--abbrev-commit --no-abbrev-commit --date-order --topo-order --author-date-order --full-history --sparse ' +
  '--simplify-merges --simplify-by-decoration --ancestry-path --left-right --left-only --right-only --cherry ' +
  '--cherry-pick --cherry-mark --boundary --cc --full-diff --no-decorate --no-notes --parents --children --show-pulls ' +
  '--walk-reflogs --log-size --source --use-mailmap --no-mailmap --no-expand-tabs --no-diff-merges --relative-date'
const LOG_VALUES: Readonly<Record<string, WordRule>> = {
  ...DIFF_VALUES,
  '-n': NUMBER,
  '--max-count': NUMBER,
  '--skip': NUMBER,
  '--since': TEXT,
  '--after': TEXT,
  '--until': TEXT,
  '--before': TEXT,
  '--author': TEXT,
  '--committer': TEXT,
  '--grep': TEXT,
  '--date': DATE_STYLE,
  '--decorate-refs': TEXT,
  '--decorate-refs-exclude': TEXT,
  '--diff-merges': WORD,
  '--exclude': TEXT
}
const LOG_ATTACHED: Readonly<Record<string, WordRule>> = {
  ...DIFF_ATTACHED,
  '--branches': TEXT,
  '--decorate': WORD,
  '--format': PRETTY,
  '--max-parents': NUMBER,
  '--min-parents': NUMBER,
  '--pretty': PRETTY,
  '--remotes': TEXT,
  '--tags': TEXT
}

const LOG: ProgramSpec = {
  switches: LOG_SWITCHES,
  values: LOG_VALUES,
  attached: LOG_ATTACHED,
  dashNumber: true,
  operands: { rest: REVISION }
}

const LIST_MODE = ['--list', '--merged', '--no-merged', '--contains', '--no-contains', '--points-at']
const REF_LIST_VALUES: Readonly<Record<string, WordRule>> = {
  '--contains': REVISION,
  '--no-contains': REVISION,
  '--merged': REVISION,
  '--no-merged': REVISION,
  '--points-at': REVISION,
  '--sort': match(/^-?[a-z:]+$/, 'a field'),
  '--format': REF_FORMAT
}

/** Read forms of git by subcommand. `git` itself takes no option before the subcommand: -c, -C, -p and --git-dir re-root it. */
export const GIT_PROGRAMS: Readonly<Record<string, ProgramSpec>> = {
  // -v shows a diff, which other flags here never do.
  'git status': {
    switches: '-sbz --short --branch --long --show-stash --renames --no-renames --ahead-behind --no-ahead-behind',
    attached: {
      '-u': oneOf('no', 'normal', 'all'),
      '--untracked-files': oneOf('no', 'normal', 'all'),
      '--porcelain': oneOf('v1', 'v2', '1', '2'),
      '--ignored': oneOf('traditional', 'no', 'matching'),
      '--ignore-submodules': oneOf('none', 'untracked', 'dirty', 'all'),
      '--find-renames': SIMILARITY
    },
    operands: { rest: REVISION }
  },
  'git log': LOG,
  'git show': LOG,
  'git diff': {
    switches: `${DIFF_SWITCHES} --cached --staged --merge-base --cc`,
    values: DIFF_VALUES,
    attached: DIFF_ATTACHED,
    operands: { rest: REVISION }
  },
  // An operand without a list flag creates a branch.
  'git branch': {
    switches: '-arv --all --remotes --verbose --list --show-current --no-color --no-column --ignore-case --no-abbrev',
    values: REF_LIST_VALUES,
    attached: { '--color': WHEN, '--abbrev': NUMBER },
    operands: { rest: TEXT, onlyWith: LIST_MODE }
  },
  'git tag': {
    switches: '-l --list --no-color --no-column --ignore-case',
    values: REF_LIST_VALUES,
    attached: { '-n': NUMBER, '--color': WHEN },
    operands: { rest: TEXT, onlyWith: ['-l', ...LIST_MODE] }
  },
  'git rev-parse': {
    switches:
      '-q --verify --quiet --show-toplevel --git-dir --absolute-git-dir --git-common-dir --is-inside-work-tree ' +
      '--is-inside-git-dir --is-bare-repository --is-shallow-repository --show-prefix --show-cdup --symbolic ' +
      '--symbolic-full-name --all --branches --tags --remotes',
    attached: { '--abbrev-ref': oneOf('strict', 'loose'), '--short': NUMBER },
    operands: { rest: REVISION }
  },
  'git rev-list': {
    switches:
      '--count --all --no-merges --merges --first-parent --reverse --left-right --left-only --right-only --oneline',
    values: { '-n': NUMBER, '--max-count': NUMBER, '--since': TEXT, '--until': TEXT, '--author': TEXT },
    dashNumber: true,
    operands: { rest: REVISION }
  },
  'git merge-base': {
    switches: '-a --all --octopus --independent --is-ancestor --fork-point',
    operands: { rest: REVISION, min: 1 }
  },
  'git ls-files': {
    switches:
      '-cdmostuvz --cached --deleted --modified --others --ignored --stage --unmerged --killed --directory ' +
      '--exclude-standard --full-name --error-unmatch --deduplicate --eol',
    operands: { rest: REVISION }
  },
  'git ls-tree': {
    switches: '-drtlz --name-only --name-status --long --full-name --full-tree',
    attached: { '--abbrev': NUMBER },
    operands: { rest: REVISION, min: 1 }
  },
  // --textconv, --filters and --batch run or wait.
  'git cat-file': {
    switches: '-epst',
    requires: ['-e', '-p', '-s', '-t'],
    operands: { rest: REVISION, min: 1, max: 1 }
  },
  'git describe': {
    switches: '--all --tags --contains --always --long --exact-match --first-parent',
    values: { '--match': TEXT, '--exclude': TEXT, '--candidates': NUMBER },
    attached: { '--abbrev': NUMBER, '--dirty': WORD, '--broken': WORD },
    operands: { rest: REVISION }
  },
  // Without a revision it reads standard input.
  'git shortlog': {
    switches: '-censw --numbered --summary --email --committer --no-merges --all',
    values: { '--since': TEXT, '--until': TEXT, '--author': TEXT, '--group': WORD },
    operands: { rest: REVISION, min: 1 }
  },
  // --contents and --ignore-revs-file open further files.
  'git blame': {
    switches: '-beflnstwc --root --show-stats --porcelain --line-porcelain --show-name --show-number --show-email',
    values: { '-L': LINE_RANGE, '--date': DATE_STYLE, '--since': TEXT },
    attached: { '-C': NUMBER, '-M': NUMBER, '--abbrev': NUMBER },
    operands: { rest: REVISION, min: 1 }
  },
  'git for-each-ref': {
    values: { ...REF_LIST_VALUES, '--count': NUMBER },
    operands: { rest: TEXT }
  },
  'git show-ref': {
    switches: '-dhqs --head --heads --tags --verify --dereference --quiet',
    attached: { '--hash': NUMBER, '--abbrev': NUMBER },
    operands: { rest: TEXT }
  },
  'git grep': {
    switches:
      '-acEFGhHiIlLnopPqvwWz --text --word-regexp --ignore-case --invert-match --full-name --extended-regexp ' +
      '--basic-regexp --fixed-strings --perl-regexp --line-number --column --files-with-matches --name-only ' +
      '--files-without-match --only-matching --count --heading --break --all-match --quiet --cached --no-color',
    values: { '-A': NUMBER, '-B': NUMBER, '-C': NUMBER, '-m': NUMBER, '-e': TEXT, '--max-depth': NUMBER },
    attached: { '--color': WHEN },
    operands: { lead: [TEXT], leadGivenBy: ['-e'], rest: REVISION }
  },
  'git remote': { operands: {} },
  'git stash list': { switches: '--oneline', operands: {} },
  'git worktree list': { switches: '-vz --porcelain --verbose', operands: {} }
}
