import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, link, mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextLoop } from 'node:timers/promises'
import t from 'tap'
import { FileAnswers } from '../src/files/file-answers.ts'
import type { JsonObject } from '../src/json.ts'
import { scratchDirectory, startGateway, type Teardown } from './support/gateway.ts'
import { NativeClient } from './support/native-client.ts'
import { prepareHome, startCodex } from './support/stdio-codex.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const SECRET = 'not for anybody in the workspace'

interface Told {
  result?: JsonObject
  error?: { code: unknown; message: string }
}

/** A workspace with something of every kind in it, beside a directory that is none of its business. */
async function makeWorkspace(t: Teardown) {
  const root = await scratchDirectory(t)
  const [workspace, outside] = [join(root, 'workspace'), join(root, 'outside')]
  await mkdir(join(workspace, 'sub', 'deep'), { recursive: true })
  await mkdir(join(outside, 'inner'), { recursive: true })
  await writeFile(join(outside, 'secret'), SECRET)
  await writeFile(join(outside, 'inner', 'secret'), SECRET)
  await writeFile(join(workspace, 'a.txt'), 'hello')
  await writeFile(join(workspace, 'sub', 'b.ts'), 'bee')
  await symlink('a.txt', join(workspace, 'link'))
  await symlink('sub', join(workspace, 'sublink'))
  await symlink(join(workspace, 'sub', 'b.ts'), join(workspace, 'absolute'))
  await symlink('nowhere', join(workspace, 'dangling'))
  await symlink('loop', join(workspace, 'loop'))
  execFileSync('mkfifo', [join(workspace, 'fifo')])
  return { root, workspace, outside }
}

function answersOf(workspace: string, viewPath = workspace): (method: string, params: JsonObject) => Promise<Told> {
  const files = new FileAnswers({ hostPath: workspace, viewPath })
  return (method, params) =>
    files.answer(method, params).then(
      (result) => ({ result: result as JsonObject }),
      (error) => {
        if (typeof error.code !== 'string' || !error.code.startsWith('CC_')) throw error
        return { error: { code: error.details?.codexCode ?? error.code, message: error.message } }
      }
    )
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** What is asked of both, in order: each finds what the ones before have left. */
const EXCHANGE: [method: string, params: object][] = [
  ...['a.txt', 'link', 'sublink/b.ts', 'absolute', 'nope', 'sub', 'dangling', 'loop', 'a.txt/x', 'fifo', 'no/x'].map(
    (path): [string, object] => ['fs/readFile', { path }]
  ),
  ...['a.txt', 'link', 'sub', 'sublink', 'fifo', 'nope', 'dangling', '.'].map((path): [string, object] => [
    'fs/getMetadata',
    { path }
  ]),
  ...['.', 'sub', 'sublink', 'a.txt', 'nope'].map((path): [string, object] => ['fs/readDirectory', { path }]),
  ['fs/writeFile', { path: 'new.txt', dataBase64: base64('new') }],
  ['fs/writeFile', { path: 'link', dataBase64: base64('through the link') }],
  ['fs/writeFile', { path: 'dangling', dataBase64: base64('now somewhere') }],
  ['fs/writeFile', { path: 'empty', dataBase64: '' }],
  ['fs/writeFile', { path: 'new.txt', dataBase64: '%%%%' }],
  ['fs/writeFile', { path: 'no/new.txt', dataBase64: '' }],
  ['fs/writeFile', { path: 'sub', dataBase64: '' }],
  ...['new.txt', 'a.txt', 'nowhere', 'empty'].map((path): [string, object] => ['fs/readFile', { path }]),
  ['fs/createDirectory', { path: 'one/two/three' }],
  ['fs/createDirectory', { path: 'one/two' }],
  ['fs/createDirectory', { path: 'one/two', recursive: false }],
  ['fs/createDirectory', { path: 'x/y', recursive: false }],
  ['fs/createDirectory', { path: 'single', recursive: null }],
  ['fs/createDirectory', { path: 'a.txt' }],
  ['fs/copy', { sourcePath: 'a.txt', destinationPath: 'copy.txt' }],
  ['fs/copy', { sourcePath: 'new.txt', destinationPath: 'copy.txt' }],
  ['fs/copy', { sourcePath: 'sub', destinationPath: 'other' }],
  ['fs/copy', { sourcePath: 'sub', destinationPath: 'other', recursive: true }],
  ['fs/copy', { sourcePath: 'sub', destinationPath: 'sub/deep/again', recursive: true }],
  ['fs/copy', { sourcePath: 'link', destinationPath: 'link2' }],
  ['fs/copy', { sourcePath: 'fifo', destinationPath: 'fifo2' }],
  ['fs/copy', { sourcePath: 'nope', destinationPath: 'x' }],
  ['fs/copy', { sourcePath: 'a.txt', destinationPath: 'sub' }],
  ['fs/copy', { sourcePath: 'a.txt', destinationPath: 'no/x' }],
  ['fs/readFile', { path: 'copy.txt' }],
  ['fs/readFile', { path: 'other/b.ts' }],
  ['fs/getMetadata', { path: 'link2' }],
  ['fs/remove', { path: 'copy.txt' }],
  ['fs/remove', { path: 'copy.txt' }],
  ['fs/remove', { path: 'copy.txt', force: false }],
  ['fs/remove', { path: 'other', recursive: false }],
  ['fs/remove', { path: 'other' }],
  ['fs/remove', { path: 'link2' }],
  ['fs/remove', { path: 'sublink' }],
  ['fs/readDirectory', { path: 'sub' }],
  ['fs/readDirectory', { path: '.' }]
]

t.test('the gateway answers as codex does, error by error', async (t) => {
  const ours = await makeWorkspace(t)
  const theirs = await makeWorkspace(t)
  const { home } = prepareHome(await scratchDirectory(t))
  const codex = await startCodex(t, home, theirs.workspace)
  const answer = answersOf(ours.workspace)
  for (const [method, params] of EXCHANGE) {
    const within = (workspace: string) =>
      Object.fromEntries(
        Object.entries(params).map(([key, value]) => [
          key,
          /path$/i.test(key) ? join(workspace, String(value)) : (value as string)
        ])
      )
    const { result, error } = await codex.request(method, within(theirs.workspace))
    const said = error === undefined ? { result } : { error: { code: error.code, message: error.message } }
    const got = await answer(method, within(ours.workspace))
    t.strictSame(
      comparable(got, ours.workspace),
      comparable(said as Told, theirs.workspace),
      JSON.stringify([method, params])
    )
  }
})

/** Without what no two answers share: times, the place of the workspace, the order of a directory. */
function comparable(told: Told, workspace: string): unknown {
  const text = JSON.stringify(told, (key, value) => {
    if (/AtMs$/.test(key)) return 0
    return key === 'entries'
      ? value.sort((a: JsonObject, b: JsonObject) => (`${a.fileName}` < `${b.fileName}` ? -1 : 1))
      : value
  })
  return JSON.parse(text.replaceAll(workspace, '/workspace'))
}

t.test('no path and no symlink leads out of the workspace, in any method', async (t) => {
  const { workspace, outside } = await makeWorkspace(t)
  const answer = answersOf(workspace)
  await symlink(outside, join(workspace, 'out'))
  await symlink('../outside', join(workspace, 'sub', 'out'))
  await symlink('../../outside', join(workspace, 'sub', 'up'))
  await symlink('sub/up', join(workspace, 'twice'))
  await symlink(join(outside, 'secret'), join(workspace, 'file'))
  await symlink(join(outside, 'new'), join(workspace, 'birth'))
  await symlink('/proc/self/root', join(workspace, 'root'))
  await symlink(`/proc/self/cwd`, join(workspace, 'cwd'))
  const before = await snapshot(outside)
  const paths = [
    '..',
    '../outside/secret',
    `${outside}/secret`,
    '/etc/passwd',
    'out/secret',
    'sub/up/secret',
    'twice/secret',
    'file',
    'birth',
    `root${outside}/secret`,
    'cwd/package.json',
    'sub/../../outside/secret',
    'out/new',
    'twice/inner/new',
    `${workspace}-2/x`,
    'out',
    'a\0b'
  ]
  for (const path of paths) {
    const calls: [string, JsonObject][] = [
      ['fs/readFile', { path }],
      ['fs/readDirectory', { path }],
      ['fs/writeFile', { path, dataBase64: base64('gotcha') }],
      ['fs/createDirectory', { path: `${path}/made` }],
      ['fs/createDirectory', { path: `${path}/made`, recursive: false }],
      ['fs/remove', { path: `${path}/secret` }],
      ['fs/copy', { sourcePath: `${path}/.`, destinationPath: 'stolen', recursive: true }],
      ['fs/copy', { sourcePath: 'sub', destinationPath: `${path}/planted`, recursive: true }],
      ['fs/copy', { sourcePath: 'a.txt', destinationPath: path }],
      ['fuzzyFileSearch', { query: 'secret', roots: [path] }]
    ]
    for (const [method, params] of calls) {
      const { error, result } = await answer(method, params)
      // A link at the very end is copied as what it is.
      const isCopiedLink = params.destinationPath === 'stolen' && result !== undefined
      const isNothing = isCopiedLink || JSON.stringify(result) === '{"files":[]}'
      t.ok(error !== undefined || isNothing, `${method} ${JSON.stringify(params)}: ${JSON.stringify(error ?? result)}`)
      if (isCopiedLink) await answer('fs/remove', { path: 'stolen' })
    }
  }
  t.match(await answer('fs/readFile', { path: 'out/secret' }), { error: { code: 'CC_OUTSIDE_WORKSPACE' } })
  t.match(await answer('fs/getMetadata', { path: 'file' }), { error: { code: 'CC_OUTSIDE_WORKSPACE' } })
  t.match(await answer('fs/remove', { path: 'out' }), { result: {} }, 'the link itself goes')
  t.match(await answer('fs/remove', { path: '.' }), { error: { message: /cannot be removed/ } })
  const { result } = await answer('fs/readDirectory', { path: '.' })
  t.match(
    ((result?.entries ?? []) as JsonObject[]).find(({ fileName }) => fileName === 'file'),
    { isFile: false, isDirectory: false }
  )
  t.match(await answer('fs/remove', { path: 'sub' }), { result: {} })
  t.strictSame(await snapshot(outside), before, 'nothing outside was touched')
})

/** Every file below a directory with its content. */
async function snapshot(directory: string): Promise<Record<string, string>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
  const listed = entries.map(({ parentPath, name }): [string, string] => [join(parentPath, name), ''])
  const contents = await Promise.all(
    files.map(async (file): Promise<[string, string]> => [file, await readFile(file, 'utf8')])
  )
  return Object.fromEntries([...listed, ...contents].sort())
}

/** Changes places of a directory and a symlink as fast as it can, until it is killed. */
const SWAPPER = `
const { renameSync } = require('node:fs')
process.stdout.write('swapping')
for (;;) { renameSync('dir', 'spare'); renameSync('evil', 'dir'); renameSync('dir', 'evil'); renameSync('spare', 'dir') }
`

t.test('a directory that becomes a symlink and back, all the time, is never a way out', async (t) => {
  const { workspace, outside } = await makeWorkspace(t)
  const inside = join(workspace, 'dir', 'inner')
  await mkdir(inside, { recursive: true })
  await writeFile(join(workspace, 'dir', 'secret'), 'harmless')
  await symlink(outside, join(workspace, 'evil'))
  const before = await snapshot(outside)
  const swapper = spawn(process.execPath, ['-e', SWAPPER], { cwd: workspace, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(swapper, 'exit')
  t.teardown(() => swapper.kill('SIGKILL'))
  await once(swapper.stdout, 'data')
  const answer = answersOf(workspace)
  const outcomes = { inside: 0, refused: 0, missing: 0 }
  const calls: [string, JsonObject][] = [
    ['fs/readFile', { path: 'dir/secret' }],
    ['fs/readDirectory', { path: 'dir/inner' }],
    ['fs/writeFile', { path: 'dir/inner/planted', dataBase64: base64('planted') }],
    // not recursive: a `dir` made between two renames would end the swapper
    ['fs/createDirectory', { path: 'dir/inner/made', recursive: false }],
    ['fs/copy', { sourcePath: 'dir', destinationPath: 'stolen', recursive: true }],
    ['fs/copy', { sourcePath: 'a.txt', destinationPath: 'dir/inner/copied' }],
    ['fs/remove', { path: 'dir/inner/made' }],
    ['fuzzyFileSearch', { query: 'secret', roots: ['.'] }],
    ['fs/readFile', { path: 'stolen/secret' }],
    ['fs/remove', { path: 'stolen' }]
  ]
  const end = Date.now() + 4_000
  while (Date.now() < end) {
    const told = await Promise.all(calls.map(([method, params]) => answer(method, params)))
    for (const { result, error } of told) {
      if (result !== undefined) outcomes.inside++
      else if (error?.code === 'CC_OUTSIDE_WORKSPACE') outcomes.refused++
      else outcomes.missing++
      if (result?.dataBase64 === base64(SECRET)) t.fail('the secret was read')
      if (/inner\/secret/.test(JSON.stringify(result))) t.fail('the search went outside')
    }
  }
  swapper.kill('SIGKILL')
  await ended
  t.comment(JSON.stringify(outcomes))
  t.ok(outcomes.inside > 0 && outcomes.refused > 0, 'both sides of the swap were met')
  t.strictSame(await snapshot(outside), before, 'nothing outside was touched')
})

t.test('a write is whole, keeps the mode, and leaves other names of the same file alone', async (t) => {
  const { workspace } = await makeWorkspace(t)
  const answer = answersOf(workspace)
  const script = join(workspace, 'script')
  await writeFile(script, 'before')
  await chmod(script, 0o750)
  await link(script, join(workspace, 'other'))
  t.match(await answer('fs/writeFile', { path: 'script', dataBase64: base64('after') }), { result: {} })
  t.equal(await readFile(script, 'utf8'), 'after')
  t.equal((await stat(script)).mode & 0o777, 0o750)
  t.equal(await readFile(join(workspace, 'other'), 'utf8'), 'before')
  t.match(await answer('fs/writeFile', { path: 'fifo', dataBase64: '' }), { error: { message: /is not a file/ } })
  t.notMatch((await readdir(workspace)).join(), /cloud-codex/, 'no draft is left')
})

t.test('settings that make programs run others are not written, moved into place or removed', async (t) => {
  const { workspace } = await makeWorkspace(t)
  const answer = answersOf(workspace)
  await mkdir(join(workspace, 'sub', '.git'))
  await writeFile(join(workspace, 'sub', '.git', 'config'), '[core]')
  await symlink('sub/.git', join(workspace, 'plain'))
  const calls: [string, JsonObject][] = [
    ['fs/writeFile', { path: 'sub/.git/config', dataBase64: '' }],
    ['fs/writeFile', { path: 'plain/config', dataBase64: '' }],
    ['fs/createDirectory', { path: '.GIT/hooks' }],
    ['fs/createDirectory', { path: '.codex/rules' }],
    ['fs/createDirectory', { path: '.agents', recursive: false }],
    ['fs/copy', { sourcePath: 'sub', destinationPath: '.git', recursive: true }],
    ['fs/copy', { sourcePath: 'sub', destinationPath: '.', recursive: true }],
    ['fs/copy', { sourcePath: 'a.txt', destinationPath: 'sub/.git/hooks' }],
    ['fs/remove', { path: 'sub/.git/config' }],
    ['fs/remove', { path: 'sub/.git' }]
  ]
  for (const [method, params] of calls) {
    const files = new FileAnswers({ hostPath: workspace, viewPath: workspace })
    await t.rejects(
      files.answer(method, params),
      { code: 'CC_FILE_PROTECTED', details: { method } },
      JSON.stringify(params)
    )
  }
  t.match(await answer('fs/readFile', { path: 'sub/.git/config' }), { result: { dataBase64: base64('[core]') } })
})

t.test('sizes and depths are bounded, and fifos hold nobody', async (t) => {
  const { workspace } = await makeWorkspace(t)
  const answer = answersOf(workspace)
  await writeFile(join(workspace, 'most'), '')
  await truncate(join(workspace, 'most'), 8 * 1024 * 1024)
  await writeFile(join(workspace, 'more'), '')
  await truncate(join(workspace, 'more'), 8 * 1024 * 1024 + 1)
  t.equal(String((await answer('fs/readFile', { path: 'most' })).result?.dataBase64).length, 11_184_812)
  const files = new FileAnswers({ hostPath: workspace, viewPath: workspace })
  await t.rejects(files.answer('fs/readFile', { path: 'more' }), { code: 'CC_FILE_TOO_LARGE', message: /8388608/ })
  await truncate(join(workspace, 'more'), 1024 * 1024 * 1024 + 1)
  const copied = { sourcePath: 'more', destinationPath: 'much' }
  await t.rejects(files.answer('fs/copy', copied), { code: 'CC_FILE_TOO_LARGE' })
  await t.rejects(stat(join(workspace, 'much')), { code: 'ENOENT' })
  const deep = Array(80).fill('d').join('/')
  t.match(await answer('fs/createDirectory', { path: deep }), { error: { message: /Filename too long/ } })
  t.match(await answer('fs/remove', { path: 'd' }), { result: {} })
  const many = Array.from({ length: 40 }, () => answer('fs/readFile', { path: 'fifo' }))
  for (const { error } of await Promise.all(many)) t.match(error?.message, /is not a file/)
})

t.test('a search finds by letters, best first, without what .gitignore names and what links lead to', async (t) => {
  const { workspace, outside } = await makeWorkspace(t)
  const answer = answersOf(workspace, '/workspace')
  await symlink(outside, join(workspace, 'out'))
  await mkdir(join(workspace, 'src', 'views'), { recursive: true })
  await mkdir(join(workspace, 'node_modules', 'secret'), { recursive: true })
  await mkdir(join(workspace, '.git'))
  await writeFile(join(workspace, '.git', 'secret'), '')
  await writeFile(join(workspace, '.gitignore'), '# none\n/node_modules/\n*.log\n!keep.log\nsrc/**/draft[0-9].ts\n')
  await writeFile(join(workspace, 'src', '.gitignore'), 'local\n')
  for (const name of [
    'main.ts',
    'local',
    'x.log',
    'keep.log',
    'views/MainView.ts',
    'views/draft1.ts',
    'views/draft.ts'
  ]) {
    await writeFile(join(workspace, 'src', name), '')
  }
  const find = async (query: string, roots = ['/workspace']) => {
    const { result } = await answer('fuzzyFileSearch', { query, roots })
    return ((result?.files ?? []) as JsonObject[]).map(({ path }) => path)
  }
  t.strictSame(await find('main'), ['src/main.ts', 'src/views/MainView.ts'])
  t.strictSame(await find('MV'), ['src/views/MainView.ts'], 'capitals count when they are asked for')
  t.strictSame(await find('views ts'), ['src/views/MainView.ts', 'src/views/draft.ts'])
  t.strictSame(await find('log'), ['src/keep.log'])
  t.strictSame(await find('draft'), ['src/views/draft.ts'])
  t.strictSame(await find('local'), [])
  t.strictSame(await find('secret'), [], 'neither ignored, nor of git, nor outside')
  t.strictSame(await find(''), [])
  t.strictSame(await find('main', []), [])
  t.strictSame(await find('main', ['/workspace/nothing']), [])
  const [hit] = ((await answer('fuzzyFileSearch', { query: 'b.ts', roots: ['/workspace/sub'] })).result?.files ??
    []) as JsonObject[]
  t.match(hit, { root: '/workspace/sub', path: 'b.ts', match_type: 'file', file_name: 'b.ts', indices: [0, 1, 2, 3] })
  await writeFile(join(workspace, '.gitignore'), `${'*a'.repeat(120)}b\n`.repeat(150))
  await writeFile(join(workspace, 'a'.repeat(250)), '')
  const began = performance.now()
  t.equal((await find('aaaa'))[0], 'a'.repeat(250))
  t.ok(performance.now() - began < 5_000, 'a hostile pattern holds nobody for long')
})

t.test('what a connection watched ends with it', async (t) => {
  const { workspace } = await makeWorkspace(t)
  const files = new FileAnswers({ hostPath: workspace, viewPath: workspace })
  const gone = new AbortController()
  const watchers = () => process.getActiveResourcesInfo().filter((name) => name === 'FSEventWrap')
  const told: string[] = []
  const listener = { notify: (method: string) => void told.push(method), signal: gone.signal }
  await files.answer('fs/watch', { watchId: 'w', path: 'sub' }, listener)
  await files.answer('fuzzyFileSearch/sessionStart', { sessionId: 's', roots: ['.'] }, listener)
  await files.answer('fuzzyFileSearch/sessionUpdate', { sessionId: 's', query: 'a' }, listener)
  t.ok(watchers().length > 0)
  gone.abort()
  // A handle is gone after the close callbacks of this turn of the loop.
  await nextLoop()
  await nextLoop()
  t.strictSame(watchers(), [])
  await writeFile(join(workspace, 'sub', 'late'), '')
  await files.answer('fuzzyFileSearch', { query: 'a', roots: ['.'] })
  t.strictSame(told, [])
  const many = Array.from({ length: 70 }, (_, n) => `w${n}`)
  const other = { notify: () => {}, signal: new AbortController().signal }
  const starts = many.map((watchId) => files.answer('fs/watch', { watchId, path: 'sub' }, other))
  const refused = (await Promise.allSettled(starts)).filter(({ status }) => status === 'rejected')
  t.equal(refused.length, 6)
  for (const watchId of many) await files.answer('fs/unwatch', { watchId }, other)
})

t.test('through both doors: a viewer reads, a user writes, codex hears of none of it', async (t) => {
  const { address } = await startGateway(t, { JWT_SECRET: TEST_SECRET })
  const connect = async (roles: string[]) => {
    const headers = await bearer('alice', { roles })
    const url = `ws://${address}`
    return [
      await TestClient.connect(t, `${url}/ws`, { headers }),
      await NativeClient.connect(t, url, { headers })
    ] as const
  }
  const [user, nativeUser] = await connect(['user'])
  const [viewer, nativeViewer] = await connect(['viewer'])
  const { cwd } = await user.call('thread/start', {})
  t.strictSame(await user.call('fs/createDirectory', { path: 'notes' }), {})
  t.strictSame(await nativeUser.call('fs/writeFile', { path: `${cwd}/notes/a.md`, dataBase64: base64('hi') }), {})
  t.strictSame(await viewer.call('fs/readFile', { path: 'notes/a.md' }), { dataBase64: base64('hi') })
  t.strictSame(await nativeViewer.call('fs/readFile', { path: `${cwd}/notes/a.md` }), { dataBase64: base64('hi') })
  for (const method of ['fs/writeFile', 'fs/remove']) {
    const params = { path: 'notes/a.md', ...(method === 'fs/writeFile' ? { dataBase64: '' } : {}) }
    t.match(await viewer.request(method, params), { type: 'error', payload: { code: 'CC_METHOD_DENIED' } })
    t.match(await nativeViewer.request(method, params), { error: { data: { code: 'CC_METHOD_DENIED' } } })
  }
  const missing = await nativeUser.request('fs/readFile', { path: `${cwd}/none` })
  const { error } = missing
  t.match(error, {
    code: -32603,
    message: 'No such file or directory (os error 2)',
    data: { code: 'CC_FILE_NOT_FOUND' }
  })
  const refused = await user.request('fs/readFile', { path: '/etc/passwd' })
  t.match(refused, { type: 'error', payload: { code: 'CC_OUTSIDE_WORKSPACE' } })
})

t.test('a native client watches files and searches as it types; others are told that they cannot', async (t) => {
  const { address } = await startGateway(t)
  const url = `ws://${address}`
  const client = await NativeClient.connect(t, `${url}/?userId=alice`)
  const other = await NativeClient.connect(t, `${url}/?userId=alice`)
  const { cwd } = await client.call('thread/start', { cwd: null })
  await client.call('fs/createDirectory', { path: `${cwd}/src/deep` })
  await symlink('/etc', join(cwd, 'etc'))

  t.strictSame(await client.call('fs/watch', { watchId: 'dir', path: `${cwd}/src` }), { path: `${cwd}/src` })
  t.strictSame(await client.call('fs/watch', { watchId: 'file', path: `${cwd}/later` }), { path: `${cwd}/later` })
  const again = await client.request('fs/watch', { watchId: 'dir', path: cwd })
  t.match(again.error, { code: -32600, message: 'watchId already exists: dir' })
  const outside = await client.request('fs/watch', { watchId: 'out', path: `${cwd}/etc` })
  t.match(outside.error, { data: { code: 'CC_OUTSIDE_WORKSPACE' } })
  await writeFile(join(cwd, 'src', 'deep', 'unseen'), '')
  await writeFile(join(cwd, 'src', 'seen.ts'), '')
  await writeFile(join(cwd, 'later'), '')
  const { params } = await client.notified('fs/changed', ({ watchId }) => watchId === 'dir')
  t.strictSame(params, { watchId: 'dir', changedPaths: [`${cwd}/src/seen.ts`] })
  const file = await client.notified('fs/changed', ({ watchId }) => watchId === 'file')
  t.strictSame(file.params.changedPaths, [`${cwd}/later`])
  t.ok(Number.isInteger((file as { emittedAtMs?: number }).emittedAtMs))
  t.strictSame(await client.call('fs/unwatch', { watchId: 'dir' }), {})
  t.strictSame(await client.call('fs/unwatch', { watchId: 'none' }), {})
  t.ok(await client.call('fs/watch', { watchId: 'dir', path: cwd }), 'the id is free again')

  t.strictSame(await client.call('fuzzyFileSearch/sessionStart', { sessionId: 's', roots: [cwd] }), {})
  t.strictSame(await client.call('fuzzyFileSearch/sessionUpdate', { sessionId: 's', query: 'seen' }), {})
  const found = await client.notified('fuzzyFileSearch/sessionUpdated', ({ query }) => query === 'seen')
  t.match(found.params, { sessionId: 's', files: [{ path: 'src/seen.ts' }, { path: 'src/deep/unseen' }] })
  await client.notified('fuzzyFileSearch/sessionCompleted', ({ sessionId }) => sessionId === 's')
  t.strictSame(await client.call('fuzzyFileSearch/sessionStop', { sessionId: 's' }), {})
  const stopped = await client.request('fuzzyFileSearch/sessionUpdate', { sessionId: 's', query: 'x' })
  t.match(stopped.error, { code: -32600, message: 'fuzzy file search session not found: s' })
  const etc = await client.request('fuzzyFileSearch/sessionStart', { sessionId: 'e', roots: ['/etc'] })
  t.match(etc.error, { data: { code: 'CC_OUTSIDE_WORKSPACE' } })
  t.notOk(
    other.received.some(({ method }) => /^f(s|uzzy)/.test(method ?? '')),
    'another client hears nothing of it'
  )

  const { payload } = await (await TestClient.connect(t, `${url}/ws?userId=alice`)).request('fs/watch', {
    watchId: 'w',
    path: 'src'
  })
  t.match(payload, { code: 'CC_FILE_REFUSED', message: /native protocol/ })
})
