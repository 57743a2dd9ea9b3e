import t from 'tap'
import type { Role } from '../../schemas/common.ts'
import { findMethod, METHODS, roleAtLeast } from '../../src/codex/methods.ts'
import { guardParams } from '../../src/codex/params.ts'
import { binaryMethods } from '../support/codex-schema.ts'

/** The contract in plain sight: who may call what. Everything else that codex knows is denied to everybody. */
const OPEN: Record<'viewer' | 'user' | 'admin', string> = {
  viewer: `initialize thread/list thread/read thread/turns/list thread/items/list thread/items/read thread/timeline/list
    thread/loaded/list thread/search thread/searchOccurrences thread/goal/get threadSection/list model/list
    modelProvider/capabilities/read permissionProfile/list collaborationMode/list experimentalFeature/list
    configRequirements/read account/read account/rateLimits/read account/usage/read skills/list config/read hooks/list
    plugin/list plugin/installed account/bedrock/checkGovCloudRequirements fs/readFile fs/getMetadata fs/readDirectory
    fs/watch fs/unwatch fuzzyFileSearch fuzzyFileSearch/sessionStart fuzzyFileSearch/sessionUpdate
    fuzzyFileSearch/sessionStop`,
  user: `thread/start thread/resume thread/fork thread/unsubscribe thread/archive thread/unarchive thread/delete
    thread/name/set thread/metadata/update thread/compact/start thread/goal/set thread/goal/clear thread/section/move
    threadSection/create threadSection/update threadSection/delete thread/revert thread/readState/update turn/start
    turn/steer turn/interrupt review/start mcpServerStatus/list thread/backgroundTerminals/list
    thread/backgroundTerminals/terminate thread/backgroundTerminals/clean thread/queue/add thread/queue/update
    thread/queue/list thread/queue/delete thread/queue/reorder thread/queue/start fs/writeFile fs/createDirectory
    fs/remove fs/copy`,
  admin: ''
}

const ROLES: Record<Role, (keyof typeof OPEN)[]> = {
  viewer: ['viewer'],
  user: ['viewer', 'user'],
  service: ['viewer', 'user'],
  approver: ['viewer', 'user'],
  admin: ['viewer', 'user', 'admin']
}

t.test('the table has every method of the pinned binary, and no other', (t) => {
  t.same([...METHODS.keys()].sort(), binaryMethods(t, 'experimental'))
  t.end()
})

t.test('a row is experimental exactly when the binary hides the method from stable clients', (t) => {
  const stable = [...METHODS.values()].filter((row) => !row.experimental).map((row) => row.method)
  t.same(stable.sort(), binaryMethods(t, 'stable'))
  t.end()
})

t.test('every method that is not denied has a schema that refuses unknown fields', (t) => {
  for (const row of METHODS.values()) {
    if (row.action === 'deny') t.ok(row.reason, `${row.method} says why it is denied`)
    else t.match(row.params, { type: 'object', additionalProperties: false }, row.method)
  }
  t.end()
})

t.test('every role gets the methods of the contract and is refused all others', async (t) => {
  const resolve = async () => '/workspace'
  for (const [role, grants] of Object.entries(ROLES) as [Role, (keyof typeof OPEN)[]][]) {
    const granted = new Set(grants.flatMap((grant) => OPEN[grant].split(/\s+/).filter(Boolean)))
    const open: string[] = []
    for (const method of METHODS.keys()) {
      const request = {
        method,
        roles: [role],
        mode: 'on-request',
        resolveDirectory: resolve,
        resolvePath: resolve
      } as const
      const code = await guardParams(request).then(
        () => undefined,
        (error: { code: string }) => error.code
      )
      // no params were sent: an open method passes, or wants its required fields
      if (code === undefined || code === 'CC_INVALID_MESSAGE') open.push(method)
      else t.equal(code, 'CC_METHOD_DENIED', `${role} ${method}`)
    }
    t.same(open.sort(), [...granted].sort(), role)
  }
})

t.test('what is an admin’s to see, others get a stand-in for', async (t) => {
  const resolve = async () => '/workspace'
  for (const method of ['config/read', 'hooks/list', 'plugin/list']) {
    for (const [role, isAnswered] of [
      ['viewer', true],
      ['user', true],
      ['approver', true],
      ['admin', false]
    ] as const) {
      const request = {
        method,
        roles: [role],
        mode: 'on-request',
        resolveDirectory: resolve,
        resolvePath: resolve
      } as const
      t.equal((await guardParams(request)).isAnswered, isAnswered, `${role} ${method}`)
    }
  }
})

t.test('a refusal says why, or which role it takes', async (t) => {
  const resolve = async () => '/workspace'
  const call = (method: string, roles: Role[]) =>
    guardParams({ method, roles, mode: 'on-request', resolveDirectory: resolve, resolvePath: resolve })
  await t.rejects(call('thread/shellCommand', ['admin']), {
    code: 'CC_METHOD_DENIED',
    details: { method: 'thread/shellCommand', reason: /without an approval/ }
  })
  await t.rejects(call('turn/start', ['viewer']), { code: 'CC_METHOD_DENIED', details: { needed: 'user' } })
  await t.rejects(call('turn/start', []), { code: 'CC_METHOD_DENIED' })
  await t.rejects(call('thread/teleport', ['admin']), { code: 'CC_UNKNOWN_TYPE' })
})

t.test('names of JavaScript’s own are no methods', (t) => {
  for (const name of ['constructor', '__proto__', 'toString', '']) t.equal(findMethod(name), undefined, name)
  t.end()
})

t.test('the highest of several roles counts, and service acts as a user', (t) => {
  t.ok(roleAtLeast(['viewer', 'admin'], 'approver'))
  t.ok(roleAtLeast(['service'], 'user'))
  t.notOk(roleAtLeast(['service'], 'approver'))
  t.notOk(roleAtLeast(['viewer'], 'user'))
  t.notOk(roleAtLeast([], 'viewer'))
  t.end()
})
