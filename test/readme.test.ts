import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parsePolicyFile } from '../src/approvals/policy-file.ts'
import { STAND_INS, Tour } from './support/tour.ts'

const TIMEOUT_MS = 300_000
const README = await readFile('README.md', 'utf8')

/** Why a command of the README is not run here, by how its block begins. */
const NOT_RUN = new Map([
  ['npm install && npm test', 'it is this run'],
  [
    'export TOKEN\nnpx codex --remote ws://localhost:3000 --remote-auth-token-env TOKEN',
    'test/tui.test.ts, in a terminal'
  ]
])
interface Block {
  language: string
  text: string
}

const blocks: Block[] = [...README.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language = '', text = '']) => ({
  language,
  text: text.trimEnd()
}))

t.setTimeout(TIMEOUT_MS)

t.test('the tour of the README works on a fresh copy, command by command', { timeout: TIMEOUT_MS }, async (t) => {
  const tour = await Tour.start(t)
  for (const [index, { language, text }] of blocks.entries()) {
    if (language === 'text' && text.startsWith('←')) await tour.exchange(text)
    if (language !== 'sh' || NOT_RUN.has(text)) continue
    const next = blocks[index + 1]
    const shown = next && ['text', 'console'].includes(next.language) && !next.text.startsWith('←') ? next.text : ''
    await tour.run(text, shown)
  }
})

t.test('each command block of the README is run, or says here why not', (t) => {
  const commands = blocks.filter(({ language }) => language === 'sh').map(({ text }) => text)
  for (const text of NOT_RUN.keys()) t.ok(commands.includes(text), `"${text}" stands in the README`)
  for (const text of STAND_INS.keys()) t.ok(README.includes(text), `"${text}" stands in the README`)
  t.ok(commands.length - NOT_RUN.size >= 7)
  t.strictSame(
    blocks.map(({ language }) => language).filter((language) => !['sh', 'text', 'console', 'json'].includes(language)),
    [],
    'no block in a language that this test would pass over'
  )
  t.end()
})

t.test('the policy file of the README is valid', (t) => {
  const files = blocks.filter(({ language }) => language === 'json')
  t.equal(files.length, 1)
  for (const { text } of files) t.ok(parsePolicyFile(text, 'README.md').rules)
  t.end()
})
