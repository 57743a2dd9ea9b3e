/**
 * What another codex would change: `npm run drift -- <path to a codex binary or its npm launcher> [--no-tests]` prints,
 * in Markdown, the methods and fields that it has more and less than the pinned one, and the protocol tests that fail on
 * it.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { locateCodexBinary } from '../src/codex/binary.ts'
import { METHODS } from '../src/codex/methods.ts'
import { readCodexVersion, TESTED_CODEX_VERSION } from '../src/codex/version.ts'
import { compareSurfaces, renderDrift } from './protocol-drift.ts'
import { readSurface } from './protocol-surface.ts'

/** What speaks with the real binary about its protocol. */
const PROTOCOL_TESTS = [
  'test/codex/*.test.ts',
  'test/files.test.ts',
  'test/method-table.test.ts',
  'test/approval-kinds.test.ts'
]

const [path, ...flags] = process.argv.slice(2)
if (path === undefined) {
  console.error('usage: npm run drift -- <path to another codex> [--no-tests]')
  process.exitCode = 2
} else {
  const other = locateCodexBinary(path)
  const version = await readCodexVersion(other)
  const drift = compareSurfaces(readSurface(locateCodexBinary()), readSurface(other))
  console.log(`### ${version} (against ${TESTED_CODEX_VERSION})\n`)
  console.log(renderDrift(drift, (method) => METHODS.get(method)?.action !== 'deny'))
  if (!flags.includes('--no-tests')) await reportTests(other)
}

async function reportTests(binary: string): Promise<void> {
  const { passed, failures } = await runTests(binary)
  console.log(`**Protocol tests**\n\n- ${passed} passed, ${failures.length} failed`)
  for (const failure of failures) console.log(`- fails: ${failure}`)
}

/** Runs the protocol tests on another codex. Counts the named tests of each file, and files that end before them. */
async function runTests(binary: string): Promise<{ passed: number; failures: string[] }> {
  const tap = join('node_modules', '.bin', 'tap')
  const child = spawn(tap, ['--reporter=tap', '--disable-coverage', '--jobs=1', ...PROTOCOL_TESTS], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, CODEX_BIN: binary }
  })
  let passed = 0
  const failures: string[] = []
  let ofFile: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    const [, indent, not, name = ''] = /^( {4})?(not )?ok \d+ - (.*?)(?: # .*)?$/.exec(line) ?? []
    if (name === '') continue
    if (indent !== undefined) {
      if (not === undefined) passed++
      else ofFile.push(name)
      continue
    }
    // The end of a file, with its name.
    if (not !== undefined && ofFile.length === 0) ofFile.push('(the file itself)')
    failures.push(...ofFile.map((one) => `\`${name}\` ${one}`))
    ofFile = []
  }
  return { passed, failures }
}
