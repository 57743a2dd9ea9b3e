import { readFileSync } from 'node:fs'
import t from 'tap'
import { decide } from '../../src/approvals/decide.ts'
import { hostFiles } from '../../src/approvals/host-files.ts'
import { requestFromEvaluate } from '../../src/approvals/request.ts'
import { compileRules } from '../../src/approvals/rules.ts'
import { READ_ONLY_SIBLINGS, UNPROVEN_SIBLINGS } from './siblings.ts'

interface Case {
  command: string
  expect: 'auto' | 'ask'
  category: string
}

const workspace = '/workspace/project'
const rules = compileRules([])
const context = { ...hostFiles, now: 0, protectedRoots: ['/data'] }
const cases = readFileSync(new URL('approval-cases.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Case)

function judge(command: string) {
  return decide(requestFromEvaluate({ kind: 'command', command }, workspace), rules, context)
}

t.test('every case of the corpus gets its verdict', async (t) => {
  t.ok(cases.length > 800, 'the corpus is there')
  const wrong = cases.filter(({ command, expect }) => judge(command).verdict !== (expect === 'auto' ? 'accept' : 'ask'))
  t.same(wrong, [])
})

t.test('every case has the same verdict when codex wraps it in a shell call', async (t) => {
  const plain = cases.filter(({ command }) => !/(^|\/)(ba)?sh /.test(command) && !command.includes("'"))
  t.ok(plain.length > 300)
  const wrong = plain.filter(({ command, expect }) => {
    const verdict = judge(`/bin/bash -lc '${command}'`).verdict
    return verdict !== (expect === 'auto' ? 'accept' : 'ask')
  })
  t.same(wrong, [])
})

t.test('an accepted case becomes a question as soon as one unlisted command joins it', async (t) => {
  const accepted = cases.filter(({ command, expect }) => expect === 'auto' && !/(^|\/)(ba)?sh /.test(command))
  for (const glue of ['; ', ' && ', ' || ', ' | ', '\n', ' & ']) {
    const wrong = accepted.flatMap(({ command }) =>
      [`${command}${glue}rm x`, `rm x${glue}${command}`].filter((joined) => judge(joined).verdict === 'accept')
    )
    t.same(wrong, [], JSON.stringify(glue))
  }
})

t.test('unseen read-only neighbours of the corpus are accepted', async (t) => {
  const asked = READ_ONLY_SIBLINGS.map((command) => ({ command, ...judge(command) })).filter(
    ({ verdict }) => verdict !== 'accept'
  )
  t.same(asked, [])
})

t.test('unseen neighbours that write, run, wait or reach outside are asked', async (t) => {
  const wrong = UNPROVEN_SIBLINGS.flatMap((command) =>
    [command, `/bin/bash -lc '${command}'`, `ls && ${command}`].filter((form) => judge(form).verdict !== 'ask')
  )
  t.same(wrong, [])
})

t.test('a decision names its rule, its reason and the words that were read', async (t) => {
  t.same(judge("/bin/bash -lc 'ls -la && cat x | grep y'"), {
    verdict: 'accept',
    rule: 'builtin:allowlist',
    reason: 'ls is on the allowlist and stays in scope',
    argv: [
      ['ls', '-la'],
      ['cat', 'x'],
      ['grep', 'y']
    ]
  })
  t.equal(judge('wc -l a.txt').rule, 'builtin:read-only')
  t.match(judge('sort -o x y'), { verdict: 'ask', rule: 'builtin:program', reason: /flag -o is not on the list/ })
  t.match(judge('cat /etc/passwd'), { verdict: 'ask', rule: 'builtin:scope', reason: /outside the workspace/ })
  t.match(judge('echo $HOME'), { verdict: 'ask', rule: 'builtin:shell', reason: /"\$"/, argv: undefined })
})
