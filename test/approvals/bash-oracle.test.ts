import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { isRefusal } from '../../src/approvals/request.ts'
import { secondOpinionAgrees } from '../../src/approvals/second-opinion.ts'
import { readScript, type SimpleCommand } from '../../src/approvals/shell.ts'
import { readCommand } from '../../src/approvals/unwrap.ts'

/** Strings to generate, not strings that are accepted: most are refused, which is the point. */
const COUNT = process.env.FULL ? 25_000 : 1_500
const SEED = Number(process.env.ORACLE_SEED ?? 20_261)

const bash = execFileSync('sh', ['-c', 'command -v bash || true'], { encoding: 'utf8' }).trim()

/**
 * What a shell would interpret, next to what it would not. `aa` and `bb` are no programs, so bash reports every command
 * through command_not_found_handle; names with a slash would be executed and are left out.
 */
const PIECES = [
  ...['aa', 'bb', 'aa', 'bb', '-x', '--y=1', 'c', '1', 'a.b', 'HEAD~1', 'HEAD^', 'x=1', ',', ':', '@', '%', '+', '_'],
  ...[' ', ' ', ' ', ' ', '  ', '\t', '\n', ' ; ', ' && ', ' || ', ' | ', ';', '&&', '|', '||', '\n\n'],
  ...["'", '"', "''", '""', "'q r'", '"q r"', "'$a'", '"\\""', '"\\\\"', '"a\\b"', "'\\'", '"`"', '"$"', "'a\nb'"],
  ...['\\', '$', '`', '<', '>', '(', ')', '{', '}', '*', '?', '[', ']', '~', '#', '!', '^', '=', '&', '|&', ';;'],
  ...['~', '=~', ':~', '$(', '$((', '${', '<(', '<<', '\\\n', "$'", '$"', '{a,b}', '2>&1', '0<(', '!!', '^a^b'],
  ...['\r', '\v', '\f', '\u0000', '\u00a0', '\u2028', '\u0085', '\u200b', '\u001b', 'é', '\u3000'],
  ...['if', 'then', 'fi', 'do', 'done', 'case', 'in', 'esac', 'for', 'while', 'until', 'time', 'coproc', 'function'],
  ...['select', '[[', ']]', 'select', 'else', 'elif', '!', '{', '}', 'A=1', 'a+=1', 'a[0]=1']
]
/** Pieces of the grammar alone: these make the long accepted scripts that random text rarely makes. */
const PLAIN_PIECES = 46

/** Every piece in every position, so that no seed can miss one. */
function* everyPiece(): Generator<string> {
  for (const piece of PIECES) {
    yield* [piece, `aa ${piece}`, `aa b${piece}`, `aa ${piece}b`, `aa x=${piece}`, `${piece} aa`, `aa; ${piece} bb`]
    yield* [`aa "${piece}"`, `aa '${piece}'`, `aa "b\\${piece}"`]
  }
}

function* randomScripts(count: number, seed: number): Generator<string> {
  yield* everyPiece()
  let state = seed >>> 0
  const below = (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
  for (let index = 0; index < count; index += 1) {
    // Two thirds mix one hostile piece in at most: what is accepted there is what is nearly refused.
    const pool = index % 3 === 0 ? PIECES.length : PLAIN_PIECES
    const parts = Array.from({ length: 1 + below(12) }, () => PIECES[below(pool)] as string)
    if (index % 3 === 2) parts.splice(below(parts.length + 1), 0, PIECES[below(PIECES.length)] as string)
    yield parts.join('')
  }
}

/**
 * Reads NUL-separated scripts and logs, for each, the argv of every command that bash looked for. One printf
 * without a newline is one write: the commands of a pipeline log at the same time.
 */
const ORACLE = String.raw`
exec 3>>"$1"
command_not_found_handle() { printf '%s\0' "C$index" "${'$'}{@//$'\n'/$'\2'}" $'\1'; return "$status"; } >&3
PATH=/nonexistent
index=0
while IFS= read -r -d '' script; do
  for status in 0 1; do
    ( eval -- "$script" ) </dev/null >/dev/null 2>&1
    printf '%s\0' "E$index" "$?" $'\1' >&3
  done
  index=$((index + 1))
done
`

interface Observed {
  readonly commands: string[][]
  readonly exits: number[]
}

/** Runs the scripts in one bash with a PATH that holds nothing and returns what it executed, by script. */
function runInBash(directory: string, scripts: readonly string[]): Observed[] {
  const log = join(directory, 'log')
  writeFileSync(log, '')
  const run = spawnSync(bash, ['--norc', '--noprofile', '-c', ORACLE, 'oracle', log], {
    cwd: directory,
    env: {},
    input: scripts.map((script) => `${script}\0`).join(''),
    timeout: 120_000
  })
  if (run.status !== 0) throw new Error(`the oracle failed: ${run.stderr}`)
  const observed = scripts.map((): Observed => ({ commands: [], exits: [] }))
  for (const record of readFileSync(log, 'utf8').split('\0\u0001\0').slice(0, -1)) {
    const [head = '', ...words] = record.split('\0')
    const of = observed[Number(head.slice(1))]
    if (of === undefined) throw new Error(`the oracle logged an unknown script: ${record}`)
    if (head.startsWith('C')) of.commands.push(words.map((word) => word.replaceAll('\u0002', '\n')))
    else of.exits.push(Number(words[0]))
  }
  return observed
}

t.test('bash never runs a command that the lexer did not list', { skip: bash === '' && 'no bash here' }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'cc-oracle-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const accepted: { script: string; commands: readonly SimpleCommand[] }[] = []
  for (const script of randomScripts(COUNT, SEED)) {
    const commands = readScript(script)
    if (!isRefusal(commands)) accepted.push({ script, commands })
  }
  t.comment(`${accepted.length} of ${COUNT} scripts read, seed ${SEED}`)
  t.ok(accepted.length > COUNT / 20, 'the generator makes scripts that are read')

  const wrong: unknown[] = []
  for (const [index, { commands, exits }] of runInBash(
    directory,
    accepted.map(({ script }) => script)
  ).entries()) {
    const { script, commands: read } = accepted[index] as (typeof accepted)[number]
    const listed = new Set(read.map(({ argv }) => JSON.stringify(argv)))
    const unlisted = commands.filter((argv) => !listed.has(JSON.stringify(argv)))
    // A syntax error ends eval with 2 and runs nothing: then the grammar took what bash refuses. `:` is a builtin.
    const misread = exits.includes(2) || (commands.length === 0 && read.every(({ argv }) => argv[0] !== ':'))
    if (unlisted.length > 0 || misread) wrong.push({ script, read: read.map(({ argv }) => argv), ran: commands, exits })
  }
  t.same(wrong.slice(0, 5), [])
})

t.test('the second parser reads the same words, or the script is asked', async (t) => {
  let both = 0
  let disagreed = 0
  for (const script of randomScripts(COUNT, SEED + 1)) {
    const commands = readScript(script)
    if (isRefusal(commands)) continue
    if (secondOpinionAgrees(script, commands)) both += 1
    else disagreed += 1
  }
  t.comment(`${both} agreed, ${disagreed} did not`)
  t.ok(both > 0)
  t.ok(disagreed * 50 < both, 'disagreement is the exception, or nothing would ever be accepted')
  t.notOk(secondOpinionAgrees('ls -la', [{ argv: ['ls', '-l'], piped: false }]), 'other words')
  t.notOk(secondOpinionAgrees('ls; pwd', [{ argv: ['ls'], piped: false }]), 'a command more')
  t.notOk(secondOpinionAgrees('ls &', [{ argv: ['ls'], piped: false }]), 'a background command')
  t.notOk(secondOpinionAgrees('ls $x', [{ argv: ['ls', '$x'], piped: false }]), 'an expansion')
  t.notOk(secondOpinionAgrees('ls > x', [{ argv: ['ls'], piped: false }]), 'a redirection')
  t.notOk(secondOpinionAgrees('(ls)', [{ argv: ['ls'], piped: false }]), 'a subshell')
  t.notOk(secondOpinionAgrees("ls 'x", [{ argv: ['ls', 'x'], piped: false }]), 'an open quote')
})

t.test('a script survives the quoting of codex unchanged', async (t) => {
  let wrapped = 0
  for (const script of randomScripts(COUNT, SEED + 2)) {
    const direct = readScript(script)
    if (isRefusal(direct)) continue
    wrapped += 1
    const single = readCommand(`/bin/bash -lc '${script.replaceAll("'", `'"'"'`)}'`)
    const double = readCommand(`/bin/bash -lc "${script.replaceAll(/[$`"\\]/g, '\\$&')}"`)
    if (isRefusal(single) || isRefusal(double)) t.fail(`a quoted form is refused: ${JSON.stringify(script)}`)
    else t.same([single.commands, double.commands], [direct, direct], { diagnostic: false })
  }
  t.ok(wrapped > 0)
})
