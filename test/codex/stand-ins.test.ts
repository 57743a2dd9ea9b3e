import t from 'tap'
import { standInFor } from '../../src/codex/stand-ins.ts'
import type { JsonObject } from '../../src/json.ts'
import { scratchDirectory } from '../support/codex-schema.ts'
import { prepareHome, startCodex } from '../support/stdio-codex.ts'

t.test('a stand-in has the fields of codex’s own answer, and claims nothing that codex denies', async (t) => {
  const { home, workspace } = prepareHome(scratchDirectory(t))
  const codex = await startCodex(t, home, workspace)
  const calls: [string, JsonObject][] = [
    ['config/read', {}],
    ['config/read', { includeLayers: true }],
    ['hooks/list', { cwds: [workspace] }],
    ['plugin/list', { cwds: [workspace] }],
    ['plugin/installed', { cwds: [workspace] }],
    ['account/bedrock/checkGovCloudRequirements', {}]
  ]
  for (const [method, params] of calls) {
    const { result } = await codex.request(method, params)
    const ours = standInFor(method, params, workspace) as JsonObject
    t.strictSame(Object.keys(ours).sort(), Object.keys(result).sort(), method)
    for (const [field, value] of Object.entries(ours)) {
      t.equal(Array.isArray(value), Array.isArray(result[field]), `${method} ${field}`)
    }
    if (method === 'hooks/list') t.strictSame(ours, result)
    if (method === 'config/read') {
      const theirs = result.config as JsonObject
      for (const key of Object.keys(ours.config as JsonObject))
        t.ok(Object.hasOwn(theirs, key), `codex says ${key}, too`)
      t.match(theirs, { approval_policy: 'on-request', sandbox_mode: 'workspace-write' })
    }
  }
  t.equal(standInFor('thread/list', {}, workspace), undefined)
  t.equal(standInFor('constructor', {}, workspace), undefined)
})
