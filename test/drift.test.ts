import { readFileSync } from 'node:fs'
import t from 'tap'
import { compareSurfaces, renderDrift } from '../scripts/protocol-drift.ts'
import { fieldsOf, readSurface } from '../scripts/protocol-surface.ts'
import { locateCodexBinary } from '../src/codex/binary.ts'
import { TESTED_CODEX_VERSION } from '../src/codex/version.ts'

const request = (method: string, params: object) => ({ properties: { method: { enum: [method] }, params } })

t.test('methods and fields that came or went are told, the outermost alone', (t) => {
  const requests = (kept: object, ...others: string[]) =>
    fieldsOf({
      oneOf: [request('kept', kept), ...others.map((method) => request(method, {}))],
      definitions: {
        Tree: { properties: { name: { type: 'string' }, children: { items: { $ref: '#/definitions/Tree' } } } },
        Kinds: { anyOf: [{ properties: { type: { enum: ['a'] }, x: { type: 'string' } } }, { type: 'null' }] }
      }
    })
  const none = new Map()
  const surface = (requests: typeof none) => ({ requests, serverRequests: none, notifications: none })
  const before = requests(
    { properties: { id: { type: 'string' }, mode: { enum: ['a', 'b'] } }, required: ['id'] },
    'old'
  )
  const after = requests(
    {
      properties: {
        id: { type: ['string', 'null'] },
        mode: { enum: ['a'] },
        tree: { $ref: '#/definitions/Tree' },
        kind: { $ref: '#/definitions/Kinds' }
      }
    },
    'new'
  )
  const drift = compareSurfaces(surface(before), surface(after))
  t.strictSame(drift.requests.added, ['new'])
  t.strictSame(drift.requests.removed, ['old'])
  t.strictSame(drift.requests.changed, [
    { method: 'kept', added: ['id: string', 'kind', 'tree'], removed: ['id!: string', 'mode = "b"'] }
  ])
  t.match(
    renderDrift(drift, () => true),
    /- `kept`: \+ `id: string`, `kind`, `tree` − `id!: string`, `mode = "b"`/
  )
  t.notMatch(
    renderDrift(drift, () => false),
    /kept/,
    'what is closed to clients is of no account'
  )
  t.end()
})

t.test('the pinned binary does not differ from itself, and says all it speaks', (t) => {
  const binary = locateCodexBinary()
  const surface = readSurface(binary)
  const drift = compareSurfaces(surface, readSurface(binary))
  for (const { added, removed, changed } of Object.values(drift)) t.strictSame([...added, ...removed, ...changed], [])
  t.equal(surface.requests.size, 187)
  t.ok(surface.requests.get('turn/start')?.has('threadId!: string'))
  t.ok(surface.serverRequests.has('item/commandExecution/requestApproval'))
  t.ok(surface.notifications.has('turn/completed'))
  t.end()
})

t.test('one version is tested, pinned and told', (t) => {
  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
  t.equal(dependencies['@openai/codex'], TESTED_CODEX_VERSION)
  const page = readFileSync('docs/COMPATIBILITY.md', 'utf8')
  t.ok(page.includes(`### ${TESTED_CODEX_VERSION} (pinned)`))
  const others = [...page.matchAll(/^### (\S+) \(against (\S+)\)$/gm)]
  t.ok(others.length >= 2, 'and at least two others are compared with it')
  for (const [, other, base] of others) t.equal(base, TESTED_CODEX_VERSION, `${other} is compared with the pinned one`)
  t.end()
})
