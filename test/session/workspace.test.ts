import { existsSync } from 'node:fs'
import { mkdir, realpath, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { workspacePaths } from '../../src/session/workspace.ts'

/** A workspace with links of all kinds beside a directory that is not to be reached. */
async function setUp(t: Test) {
  const root = await realpath(t.testdir({ workspace: { inside: { deep: {} }, file: '' }, outside: { secret: '' } }))
  const workspace = join(root, 'workspace')
  await symlink('inside', join(workspace, 'in'))
  await symlink('../outside', join(workspace, 'out'))
  await symlink(join(root, 'nowhere'), join(workspace, 'dangling'))
  await symlink('not-yet', join(workspace, 'dangling-inside'))
  await symlink('loop', join(workspace, 'loop'))
  const directories = { workspace, codexHome: join(root, 'c'), home: join(root, 'h') }
  const view = { workspace: '/workspace', codexHome: '/codex-home', home: '/home' }
  return { root, workspace, same: workspacePaths(directories, directories), seen: workspacePaths(directories, view) }
}

const outside = { code: 'CC_OUTSIDE_WORKSPACE' }
const ESCAPES = [
  '..',
  '../outside',
  'inside/../../outside',
  'out',
  'out/secret',
  'out/new',
  '/',
  '/etc',
  'dangling',
  'dangling/x',
  'loop',
  'a\0b',
  '/workspace2',
  '../workspace2'
]

t.test('a directory to work in', async (t) => {
  const { root, workspace, same } = await setUp(t)
  for (const [path, expected] of [
    ['.', workspace],
    ['', workspace],
    ['inside', join(workspace, 'inside')],
    ['./inside//deep/..', join(workspace, 'inside')],
    ['in', join(workspace, 'inside')],
    [workspace, workspace],
    [`${workspace}/inside/deep`, join(workspace, 'inside/deep')],
    ['new/way/down', join(workspace, 'new/way/down')],
    ['in/made', join(workspace, 'inside/made')],
    ['..name', join(workspace, '..name')]
  ] as const) {
    t.equal(await same.resolveDirectory(path), expected, path)
    t.ok(existsSync(expected))
  }
  for (const path of [...ESCAPES, 'file', 'file/x', 'x'.repeat(300), `${root}/outside`, `${workspace}x`]) {
    await t.rejects(same.resolveDirectory(path), outside, JSON.stringify(path.slice(0, 40)))
  }
  t.notOk(existsSync(join(root, 'nowhere')) || existsSync(join(root, 'outside/new')), 'nothing is made outside')
})

t.test('a file or a filter: nothing is made, what is missing is judged by where it would be', async (t) => {
  const { workspace, same } = await setUp(t)
  for (const [path, expected] of [
    ['file', join(workspace, 'file')],
    ['in/missing/x', join(workspace, 'inside/missing/x')],
    ['missing', join(workspace, 'missing')]
  ] as const) {
    t.equal(await same.resolvePath(path), expected, path)
  }
  t.notOk(existsSync(join(workspace, 'missing')))
  for (const path of ESCAPES) await t.rejects(same.resolvePath(path), outside, JSON.stringify(path))
})

t.test('where codex sees other paths than the host, clients and codex speak of codex’s', async (t) => {
  const { workspace, seen } = await setUp(t)
  t.equal(await seen.resolveDirectory('in'), '/workspace/inside')
  t.equal(await seen.resolveDirectory('/workspace/inside'), '/workspace/inside')
  t.equal(await seen.resolvePath('/workspace/file'), '/workspace/file')
  for (const path of [workspace, `${workspace}/inside`, '/codex-home', '/home', '/workspace/../codex-home']) {
    await t.rejects(seen.resolveDirectory(path), outside, path)
  }
})

t.test('a link that is swapped in between the steps is not followed out', async (t) => {
  const { root, workspace, same } = await setUp(t)
  await mkdir(join(workspace, 'a'))
  await writeFile(join(workspace, 'a', 'b'), '')
  await t.rejects(same.resolveDirectory('a/b/c'), outside, 'a file in the way')
  await symlink(join(root, 'outside'), join(workspace, 'a', 'link'))
  await t.rejects(same.resolveDirectory('a/link/made'), outside)
  t.notOk(existsSync(join(root, 'outside', 'made')))
})
