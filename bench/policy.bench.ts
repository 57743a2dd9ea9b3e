/** Microseconds per policy decision over the corpus, real file system included. `npx tsx bench/policy.bench.ts` */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decide } from '../src/approvals/decide.ts'
import { createFileView } from '../src/approvals/host-files.ts'
import { requestFromEvaluate } from '../src/approvals/request.ts'
import { compileRules } from '../src/approvals/rules.ts'

const ROUNDS = 60
const WARM_UP_ROUNDS = 10
const GOAL_MEDIAN_US = 50

interface Case {
  command: string
  expect: 'auto' | 'ask'
}

const directory = mkdtempSync(join(tmpdir(), 'cc-policy-bench-'))
mkdirSync(join(directory, 'src'))
writeFileSync(join(directory, 'README.md'), '')
const workspace = '/workspace'
const rules = compileRules([])
const context = {
  ...createFileView([
    { at: '/', host: '/' },
    { at: workspace, host: directory }
  ]),
  now: 0,
  protectedRoots: ['/codex-home', '/srv/cloud-codex', '/srv/cloud-codex/workspaces']
}
const cases = readFileSync(new URL('../test/approvals/approval-cases.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Case)

/** Microseconds of each decision, ascending. */
function measure(selected: readonly Case[]): number[] {
  const requests = selected.map(({ command }) => requestFromEvaluate({ kind: 'command', command }, workspace))
  const samples: number[] = []
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round += 1) {
    for (const request of requests) {
      const start = process.hrtime.bigint()
      decide(request, rules, context)
      if (round >= WARM_UP_ROUNDS) samples.push(Number(process.hrtime.bigint() - start) / 1000)
    }
  }
  return samples.sort((left, right) => left - right)
}

function report(name: string, samples: readonly number[]): void {
  const at = (share: number): string => (samples[Math.floor(samples.length * share)] ?? 0).toFixed(1)
  console.log(
    `${name}: median ${at(0.5)} µs, p90 ${at(0.9)}, p99 ${at(0.99)}, p99.9 ${at(0.999)} (${samples.length} decisions)`
  )
}

const all = measure(cases)
report('all cases', all)
report('accepted', measure(cases.filter(({ expect }) => expect === 'auto')))
report('asked', measure(cases.filter(({ expect }) => expect === 'ask')))
rmSync(directory, { recursive: true })

const median = all[Math.floor(all.length / 2)] ?? Number.POSITIVE_INFINITY
if (median > GOAL_MEDIAN_US) {
  console.error(`the median is over its goal of ${GOAL_MEDIAN_US} µs`)
  process.exitCode = 1
}
