// Runs the tests and says in one last line how many passed. Arguments go to tap (`npm test -- test/tenants.test.ts`);
// --full sets FULL=1, with which the long tests run and coverage is demanded; --verbose shows every assertion.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const MIN_COVERED_PERCENT = 90
/** The report's levels: files stand at the margin, the named tests of a file one step in. */
const FILE_OR_TEST = /^( {4})?(not )?ok \d+ - /
const FAILURE = /^ *not ok /
/** Totals, and rows of the coverage table. */
const SUMMARY = /^# |^(?! *ok ).*\|/
const DETAILS_END = /^ *\.\.\.$/

const isFull = process.argv.includes('--full')
const isVerbose = process.argv.includes('--verbose')
const names = process.argv.slice(2).filter((argument) => argument !== '--full' && argument !== '--verbose')

const coverage = isFull ? ['--coverage-report=text', '--coverage-report=json-summary'] : ['--disable-coverage']
// tap has its plugins compiled into itself: without this the first run after an installation still has those of its own.
await end(start(['tap', 'build'], 'inherit'))
const totals = { passed: 0, failed: 0, skipped: 0, failedFiles: 0 }
const exitCode = await run(['tap', '--reporter=tap', ...coverage, ...names])
const isCovered = !isFull || names.length > 0 || checkCoverage()
// A file can fail without a test that does: it crashed, or it took too long.
const failed = Math.max(totals.failed, totals.failedFiles)
console.log(`${totals.passed} passed, ${failed} failed, ${totals.skipped} skipped`)
process.exitCode = exitCode || (isCovered ? 0 : 1)

function start([program, ...args], stdout) {
  return spawn(join('node_modules', '.bin', program), args, {
    stdio: ['ignore', stdout, 'inherit'],
    env: { ...process.env, ...(isFull ? { FULL: '1' } : {}) }
  })
}

/** Its exit code, once it has ended. */
function end(child) {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve(code ?? 1))
  })
}

async function run(command) {
  const child = start(command, 'pipe')
  const ended = end(child)
  let isInDetails = false
  for await (const line of createInterface({ input: child.stdout })) {
    count(line)
    const isShown = isVerbose || isInDetails || FILE_OR_TEST.test(line) || FAILURE.test(line) || SUMMARY.test(line)
    if (isShown) console.log(line)
    isInDetails = FAILURE.test(line) || (isInDetails && !DETAILS_END.test(line))
  }
  return ended
}

function count(line) {
  const [result, indent, not] = FILE_OR_TEST.exec(line) ?? []
  if (result === undefined) return
  if (indent === undefined) totals.failedFiles += not ? 1 : 0
  else if (/ # (skip|todo)\b/i.test(line)) totals.skipped += 1
  else totals[not ? 'failed' : 'passed'] += 1
}

function checkCoverage() {
  const { total } = JSON.parse(readFileSync(join('.tap', 'report', 'coverage-summary.json'), 'utf8'))
  const { pct } = total.lines
  const isEnough = pct >= MIN_COVERED_PERCENT
  console.log(`${pct} % of lines covered${isEnough ? '' : `: less than ${MIN_COVERED_PERCENT}`}`)
  return isEnough
}
