// Runs the tests and says in one last line how many passed. Arguments go to tap (`npm test -- test/tenants.test.ts`);
// --full sets FULL=1, with which the long tests run and coverage is demanded.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const MIN_COVERED_PERCENT = 90

const isFull = process.argv.includes('--full')
const names = process.argv.slice(2).filter((argument) => argument !== '--full')
const directory = mkdtempSync(join(tmpdir(), 'cloud-codex-tap-'))
const tapFile = join(directory, 'results.tap')

const coverage = isFull ? ['--coverage-report=text', '--coverage-report=json-summary'] : ['--disable-coverage']
const exitCode = await run(['tap', ...coverage, `--output-file=${tapFile}`, ...names])
const { passed, failed, skipped } = count(readFileSync(tapFile, 'utf8'))
rmSync(directory, { recursive: true })
const isCovered = !isFull || names.length > 0 || checkCoverage()
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exitCode = exitCode || (isCovered ? 0 : 1)

function run([program, ...args]) {
  const child = spawn(join('node_modules', '.bin', program), args, {
    stdio: 'inherit',
    env: { ...process.env, ...(isFull ? { FULL: '1' } : {}) }
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve(code ?? 1))
  })
}

/** Counts the named tests of all files: the second level of the report; the first is the files. */
function count(report) {
  const totals = { passed: 0, failed: 0, skipped: 0 }
  let failedFiles = 0
  for (const line of report.split('\n')) {
    const [result, indent, not] = /^( {4})?(not )?ok \d+ /.exec(line) ?? []
    if (result === undefined) continue
    if (indent === undefined) failedFiles += not ? 1 : 0
    else if (/ # (skip|todo)\b/i.test(line)) totals.skipped += 1
    else totals[not ? 'failed' : 'passed'] += 1
  }
  // A file can fail without a test that does: it crashed, or it took too long.
  return { ...totals, failed: Math.max(totals.failed, failedFiles) }
}

function checkCoverage() {
  const { total } = JSON.parse(readFileSync(join('.tap', 'report', 'coverage-summary.json'), 'utf8'))
  const { pct } = total.lines
  const isEnough = pct >= MIN_COVERED_PERCENT
  console.log(`${pct} % of lines covered${isEnough ? '' : `: less than ${MIN_COVERED_PERCENT}`}`)
  return isEnough
}
