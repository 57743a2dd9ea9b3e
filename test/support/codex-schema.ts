import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { testedCodex } from './tested-codex.ts'

/** What the pinned binary says about its own protocol. */

export interface JsonSchema {
  $ref?: string
  type?: string | string[]
  enum?: string[]
  const?: string
  properties?: Record<string, JsonSchema>
  required?: string[]
  items?: JsonSchema
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  allOf?: JsonSchema[]
  definitions?: Record<string, JsonSchema>
}

const SCRATCH = join(import.meta.dirname, '..', '..', '.cloud-codex')

/** A fresh directory of the repository's own: codex's sandbox and helpers refuse a home under /tmp. */
export function scratchDirectory(t: Test): string {
  mkdirSync(SCRATCH, { recursive: true })
  const directory = mkdtempSync(join(SCRATCH, 'test-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

/** Every client method, from the TypeScript types: the JSON schema leaves the three oldest out. */
export function binaryMethods(t: Test, kind: 'stable' | 'experimental'): string[] {
  const types = readFileSync(join(generate(t, 'generate-ts', kind), 'ClientRequest.ts'), 'utf8')
  return [...types.matchAll(/"method": "([^"]+)"/g)].map(([, method = '']) => method).sort()
}

/** The schema of every client request, with `definitions`. */
export function binaryRequests(t: Test): JsonSchema {
  return JSON.parse(
    readFileSync(join(generate(t, 'generate-json-schema', 'experimental'), 'ClientRequest.json'), 'utf8')
  )
}

/** The schema of every notification, with `definitions`. */
export function binaryNotifications(t: Test): JsonSchema {
  return JSON.parse(
    readFileSync(join(generate(t, 'generate-json-schema', 'experimental'), 'ServerNotification.json'), 'utf8')
  )
}

function generate(t: Test, command: string, kind: 'stable' | 'experimental'): string {
  const out = scratchDirectory(t)
  const flags = kind === 'experimental' ? ['--experimental'] : []
  execFileSync(testedCodex(), ['app-server', command, ...flags, '--out', out], {
    env: { PATH: process.env.PATH, HOME: out, CODEX_HOME: out },
    stdio: 'pipe'
  })
  return out
}
