import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, readlink, symlink, truncate, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { userKey } from '../src/isolation/user-directories.ts'
import { startGateway, type Teardown } from './support/gateway.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { unzip } from './support/unzip.ts'

const SECRET = 'not for anybody in the workspace'
const MIB = 1024 * 1024

interface Call {
  method?: string
  headers?: Record<string, string>
  body?: RequestInit['body']
}

/** A gateway, a user of it, and that user's workspace on the host. */
async function start(t: Teardown, variables: Record<string, string> = {}) {
  const gateway = await startGateway(t, variables)
  const base = `http://${gateway.address}/api/files`
  const call = (path: string, { headers = {}, ...rest }: Call = {}) => {
    const who: Record<string, string> = 'authorization' in headers ? {} : { 'x-user-id': 'alice' }
    return fetch(`${base}${path}`, { ...rest, headers: { ...who, ...headers }, duplex: 'half' } as RequestInit)
  }
  const put = (path: string, body: RequestInit['body'], headers: Record<string, string> = {}) =>
    call(`/content?path=${encodeURIComponent(path)}`, { method: 'PUT', body, headers })
  const get = (path: string, headers: Record<string, string> = {}) =>
    call(`/content?path=${encodeURIComponent(path)}`, { headers })
  t.teardown(() => gateway.close())
  await call('')
  const workspace = join(gateway.dataDir, 'workspaces', userKey('alice'))
  return { ...gateway, workspace, call, put, get }
}

async function codeOf(response: Response): Promise<string> {
  return `${response.status} ${((await response.json()) as { error: { code: string } }).error.code}`
}

/** The files below a directory that this process holds open. */
async function openBelow(directory: string): Promise<string[]> {
  const names = await readdir('/proc/self/fd')
  const paths = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
  return paths.filter((path) => path.startsWith(directory))
}

async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const end = Date.now() + 10_000
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`in vain: ${what}`)
    await delay(20)
  }
}

/** A request on a socket of its own, to be sent and read byte by byte. */
async function openSocket(t: Teardown, address: string, head: string[]): Promise<Socket> {
  const [host, port] = address.split(':')
  const socket = connect(Number(port), host)
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write([head[0], `host: ${address}`, 'x-user-id: alice', ...head.slice(1), '', ''].join('\r\n'))
  return socket
}

t.test('files go up and come down as they are, and no codex process is started for them', async (t) => {
  const { app, call, put, get } = await start(t)
  const bytes = Buffer.from([0, 255, 13, 10, 0x80])
  t.equal(await codeOf(await put('sub/a.bin', bytes)), '404 CC_FILE_NOT_FOUND')
  const json = { 'content-type': 'application/json' }
  const made = await call('/directories', { method: 'POST', headers: json, body: '{"path":"sub/deep"}' })
  t.equal(made.status, 201)
  const created = await put('sub/a.bin', bytes, { 'content-type': 'text/html' })
  const entry = await created.json()
  t.equal(created.status, 201)
  t.match(entry, { path: 'sub/a.bin', kind: 'file', bytes: 5 })
  t.equal((await put('sub/empty', '')).status, 201)
  t.equal((await put('sub/é "q".txt', 'x', json)).status, 201, 'a body is a body, whatever type it claims')

  const file = await get('sub/a.bin')
  t.strictSame(Buffer.from(await file.arrayBuffer()), bytes)
  const { headers } = file
  t.equal(headers.get('content-type'), 'application/octet-stream')
  t.equal(headers.get('content-length'), '5')
  t.equal(headers.get('x-content-type-options'), 'nosniff')
  t.equal(headers.get('content-disposition'), "attachment; filename*=UTF-8''a.bin")
  const named = (await get('sub/é "q".txt')).headers.get('content-disposition')
  t.equal(named, "attachment; filename*=UTF-8''%C3%A9%20%22q%22.txt")
  t.equal((await get('sub/empty')).headers.get('content-length'), '0')
  const etag = headers.get('etag') as string
  t.equal(created.headers.get('etag'), etag)
  t.equal((await get('sub/a.bin', { 'if-none-match': `"other", W/${etag}` })).status, 304)

  const part = await get('sub/a.bin', { range: 'bytes=1-2' })
  t.equal(part.status, 206)
  t.equal(part.headers.get('content-range'), 'bytes 1-2/5')
  t.strictSame(Buffer.from(await part.arrayBuffer()), bytes.subarray(1, 3))
  for (const [range, from, to] of [
    ['bytes=-2', 3, 5],
    ['bytes=3-', 3, 5],
    ['bytes=0-99', 0, 5],
    ['bytes=0-0,2-2', 0, 5],
    ['bytes=4-1', 0, 5],
    ['lines=1-2', 0, 5]
  ] as const) {
    t.strictSame(Buffer.from(await (await get('sub/a.bin', { range })).arrayBuffer()), bytes.subarray(from, to), range)
  }
  t.equal((await get('sub/a.bin', { range: 'bytes=1-2', 'if-range': '"older"' })).status, 200)
  const beyond = await get('sub/a.bin', { range: 'bytes=5-' })
  t.equal(beyond.headers.get('content-range'), 'bytes */5')
  t.equal(await codeOf(beyond), '416 CC_RANGE')

  t.equal(await codeOf(await put('sub/a.bin', 'new', { 'if-none-match': '*' })), '412 CC_FILE_CHANGED')
  t.equal(await codeOf(await put('sub/a.bin', 'new', { 'if-match': '"older"' })), '412 CC_FILE_CHANGED')
  t.equal(await codeOf(await put('sub/none', 'new', { 'if-match': '*' })), '412 CC_FILE_CHANGED')
  t.strictSame(Buffer.from(await (await get('sub/a.bin')).arrayBuffer()), bytes)
  const replaced = await put('sub/a.bin', 'new', { 'if-match': etag })
  t.equal(replaced.status, 200)
  t.not(replaced.headers.get('etag'), etag)

  const tree = (await (await call('?depth=3')).json()) as { entries: { path: string; kind: string; bytes: number }[] }
  t.match(tree, { path: '', truncated: false })
  t.strictSame(
    tree.entries.map(({ path, kind, bytes }) => `${kind} ${path} ${bytes}`),
    ['directory sub 0', 'file sub/a.bin 3', 'directory sub/deep 0', 'file sub/empty 0', 'file sub/é "q".txt 1']
  )
  const paths = async (query: string) => {
    const { entries, ...rest } = (await (await call(query)).json()) as { entries: { path: string }[] }
    return { paths: entries.map(({ path }) => path), ...rest }
  }
  t.strictSame(await paths(''), { paths: ['sub'], path: '', truncated: false })
  t.match(await paths('?depth=3&limit=2'), { paths: ['sub', /^sub\//], truncated: true })
  t.match(await paths('?path=sub/deep/../deep/.'), { path: 'sub/deep', truncated: false })

  t.match(await codeOf(await call('?path=sub', { method: 'DELETE' })), '400 CC_FILE_REFUSED')
  t.equal((await call('?path=sub&recursive=true', { method: 'DELETE' })).status, 200)
  t.equal(await codeOf(await call('?path=sub', { method: 'DELETE' })), '404 CC_FILE_NOT_FOUND')
  t.strictSame((await paths('')).paths, [])
  t.equal(app.pool.size, 0)
})

t.test('nothing outside the workspace, no device and nothing protected is within reach', async (t) => {
  const { dataDir, workspace, call, put, get } = await start(t)
  await writeFile(join(dataDir, 'secret'), SECRET)
  await symlink(dataDir, join(workspace, 'out'))
  await symlink(join(dataDir, 'planted'), join(workspace, 'dangling'))
  await symlink('/dev/zero', join(workspace, 'zero'))
  await mkdir(join(workspace, '.git'))
  execFileSync('mkfifo', [join(workspace, 'fifo')])
  const outside = ['../secret', '/etc/passwd', `${dataDir}/secret`, 'out/secret', 'a/../../x', 'zero']
  for (const path of [...outside, 'a\0b', 'dangling']) {
    t.equal(await codeOf(await get(path)), '400 CC_OUTSIDE_WORKSPACE', JSON.stringify(path))
    t.equal(await codeOf(await put(path, 'x')), '400 CC_OUTSIDE_WORKSPACE', JSON.stringify(path))
  }
  const query = (path: string) => `?path=${encodeURIComponent(path)}`
  for (const path of ['..', '/etc', 'out', 'out/inner', 'a\0b']) {
    t.equal(await codeOf(await call(query(path))), '400 CC_OUTSIDE_WORKSPACE', JSON.stringify(path))
    t.equal(await codeOf(await call(`/archive${query(path)}`)), '400 CC_OUTSIDE_WORKSPACE', JSON.stringify(path))
  }
  const remove = (path: string) => call(`${query(path)}&recursive=true`, { method: 'DELETE' })
  t.equal(await codeOf(await remove('out/secret')), '400 CC_OUTSIDE_WORKSPACE')
  t.equal(await codeOf(await remove('')), '400 CC_FILE_REFUSED')
  for (const path of ['fifo', '.git']) {
    t.equal(await codeOf(await get(path)), '400 CC_FILE_REFUSED', path)
  }
  t.equal(await codeOf(await put('fifo', 'x')), '400 CC_FILE_REFUSED')
  t.equal(await codeOf(await call('/archive?path=fifo')), '400 CC_FILE_REFUSED')
  t.equal(await codeOf(await put('.git/config', '[core]')), '403 CC_FILE_PROTECTED')
  t.equal(await codeOf(await remove('.git')), '403 CC_FILE_PROTECTED')
  const body = JSON.stringify({ path: '.codex/rules' })
  const made = await call('/directories', { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  t.equal(await codeOf(made), '403 CC_FILE_PROTECTED')
  t.match(await codeOf(await call(`/content${query('x'.repeat(5_000))}`)), '400 CC_VALIDATION')
  const tree = (await (await call('?depth=9')).json()) as { entries: { path: string; kind: string }[] }
  t.strictSame(
    tree.entries.map(({ path, kind }) => `${kind} ${path}`),
    ['directory .git', 'link dangling', 'other fifo', 'link out', 'link zero']
  )
  t.equal((await remove('out')).status, 200, 'a link goes, what it leads to stays')
  t.equal(await readFile(join(dataDir, 'secret'), 'utf8'), SECRET)
  t.notOk((await readdir(dataDir)).includes('planted'))
})

t.test('a viewer reads, a user writes, and each has a workspace of their own', async (t) => {
  const { call, put, get } = await start(t, { JWT_SECRET: TEST_SECRET })
  const [alice, bob] = [await bearer('alice'), await bearer('bob')]
  const viewer = await bearer('alice', { roles: ['viewer'] })
  const service = await bearer('ci', { roles: ['service'] })
  t.equal((await put('a.txt', 'of alice', alice)).status, 201)
  t.equal(await (await get('a.txt', viewer)).text(), 'of alice')
  t.equal((await call('', { headers: viewer })).status, 200)
  t.equal((await call('/archive', { headers: viewer })).status, 200)
  const json = { ...viewer, 'content-type': 'application/json' }
  for (const refused of [
    await put('a.txt', 'of nobody', viewer),
    await call('?path=a.txt', { method: 'DELETE', headers: viewer }),
    await call('/directories', { method: 'POST', headers: json, body: '{"path":"d"}' })
  ]) {
    t.equal(await codeOf(refused), '403 CC_METHOD_DENIED')
  }
  t.equal(await codeOf(await get('a.txt', bob)), '404 CC_FILE_NOT_FOUND')
  for (const [path, method] of [
    ['/content?path=a.txt&userId=alice', 'GET'],
    ['/content?path=a.txt&userId=alice', 'PUT'],
    ['/archive?userId=alice', 'GET'],
    ['?userId=alice', 'GET'],
    ['?path=a.txt&userId=alice', 'DELETE']
  ] as const) {
    t.equal(await codeOf(await call(path, { method, headers: bob })), '403 CC_FORBIDDEN', `${method} ${path}`)
  }
  t.equal(await codeOf(await get('a.txt', { authorization: 'none' })), '401 CC_UNAUTHORIZED')
  const foreign = { ...alice, origin: 'https://evil.example' }
  t.equal(await codeOf(await put('a.txt', 'of evil', foreign)), '403 CC_ORIGIN_DENIED')
  t.equal(await (await call('/content?path=a.txt&userId=alice', { headers: service })).text(), 'of alice')
})

t.test('an upload is bounded, and one that is refused or cut off leaves nothing behind', async (t) => {
  const { address, workspace, put, get, close } = await start(t, { FILE_MAX_BYTES: '100000' })
  t.equal((await put('most', Buffer.alloc(100_000))).status, 201)
  t.equal(await codeOf(await put('more', Buffer.alloc(100_001))), '413 CC_FILE_TOO_LARGE')
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(Buffer.alloc(65_536)) })
  const told = await put('more', endless).then(codeOf, () => 'cut')
  t.match(told, /^(413 CC_FILE_TOO_LARGE|cut)$/, 'of unknown length, too')
  t.strictSame(await readdir(workspace), ['most'])

  const head = ['PUT /api/files/content?path=most HTTP/1.1', 'content-length: 1000']
  const hasDraft = async () => (await readdir(workspace)).some((name) => name.startsWith('.cloud-codex-'))
  const cut = await openSocket(t, address, head)
  cut.write('half')
  await until('a draft', hasDraft)
  cut.destroy()
  await until('no draft', async () => !(await hasDraft()))
  t.equal((await (await get('most')).arrayBuffer()).byteLength, 100_000, 'the older one is whole')

  const slow = await openSocket(t, address, ['PUT /api/files/content?path=slow HTTP/1.1', 'content-length: 4'])
  for (const letter of 'slow') {
    slow.write(letter)
    await delay(30)
  }
  await once(slow, 'data')
  t.equal(await (await get('slow')).text(), 'slow')

  const late = await openSocket(t, address, head)
  late.write('half')
  await until('a draft', hasDraft)
  await close()
  t.strictSame((await readdir(workspace)).sort(), ['most', 'slow'], 'nor does the end of the gateway')
})

t.test('a slow client gets its file as fast as it reads; one that stalls is cut off', async (t) => {
  const { app, address, workspace } = await start(t, { CLIENT_STALL_TIMEOUT_MS: '500' })
  const size = 64 * MIB
  await writeFile(join(workspace, 'big'), '')
  await truncate(join(workspace, 'big'), size)
  const ends: Socket[] = []
  app.server.on('connection', (socket: Socket) => void ends.push(socket))
  const slow = await openSocket(t, address, ['GET /api/files/content?path=big HTTP/1.1', 'connection: close'])
  let received = 0
  slow.on('data', (piece) => {
    received += piece.length
    if (received >= size / 2) return
    slow.pause()
    setTimeout(() => slow.resume(), 1)
  })
  await once(slow, 'data')
  t.ok((ends[0]?.writableLength ?? size) < MIB, 'what it has not read stays in the file')
  await once(slow, 'close')
  t.ok(received > size, `${received} bytes`)

  const stalled = await openSocket(t, address, ['GET /api/files/content?path=big HTTP/1.1'])
  stalled.pause()
  const end = ends[1] as Socket
  await once(end, 'close')
  t.ok(end.bytesWritten < size / 2)
  await until('the file is closed', async () => (await openBelow(workspace)).length === 0)
  const sender = await openSocket(t, address, ['PUT /api/files/content?path=up HTTP/1.1', 'content-length: 9'])
  await once(sender, 'close')
  await until('no draft', async () => (await readdir(workspace)).join() === 'big')
})

t.test('a directory comes as a zip, made as it is read, without what links lead to', async (t) => {
  const { app, address, dataDir, workspace, call } = await start(t)
  await writeFile(join(dataDir, 'secret'), SECRET)
  await mkdir(join(workspace, 'sub', 'empty'), { recursive: true })
  await writeFile(join(workspace, 'sub', 'a.txt'), 'a'.repeat(100_000))
  await writeFile(join(workspace, 'sub', '..\\..\\é.txt'), 'é')
  await writeFile(join(workspace, 'C:x'), '')
  await symlink(dataDir, join(workspace, 'sub', 'out'))
  await symlink(join(dataDir, 'secret'), join(workspace, 'sub', 'secret'))
  execFileSync('mkfifo', [join(workspace, 'sub', 'fifo')])
  const response = await call('/archive')
  t.equal(response.headers.get('content-disposition'), "attachment; filename*=UTF-8''workspace.zip")
  const entries = unzip(Buffer.from(await response.arrayBuffer()))
  t.strictSame([...entries.keys()], ['C_x', 'sub/', 'sub/.._.._é.txt', 'sub/a.txt', 'sub/empty/'])
  t.equal(String(entries.get('sub/a.txt')), 'a'.repeat(100_000))
  const part = await call('/archive?path=sub')
  t.match(part.headers.get('content-disposition'), /sub\.zip/)
  t.strictSame([...unzip(Buffer.from(await part.arrayBuffer())).keys()], ['.._.._é.txt', 'a.txt', 'empty/'])

  await writeFile(join(workspace, 'huge'), '')
  await truncate(join(workspace, 'huge'), 2 * 1024 * MIB)
  t.equal(await codeOf(await call('/archive')), '413 CC_FILE_TOO_LARGE')
  await truncate(join(workspace, 'huge'), 0)
  for (let n = 0; n < 8; n++) {
    execFileSync('dd', ['if=/dev/urandom', `of=${join(workspace, `random${n}`)}`, 'bs=1M', 'count=4'], {
      stdio: 'ignore'
    })
  }
  const ends: Socket[] = []
  app.server.on('connection', (socket: Socket) => void ends.push(socket))
  const stalled = await openSocket(t, address, ['GET /api/files/archive HTTP/1.1'])
  await once(stalled, 'data')
  stalled.pause()
  const readBytes = async () => ends[0]?.bytesWritten ?? 0
  let before = -1
  await until('it waits', async () => {
    const now = await readBytes()
    const isSame = now === before && now > 0
    before = now
    await delay(100)
    return isSame
  })
  t.ok((await readBytes()) < 20 * MIB, `${await readBytes()} bytes of 32 MiB`)
  t.ok((await openBelow(workspace)).length > 0)
  stalled.destroy()
  await until('all is closed', async () => (await openBelow(workspace)).length === 0)
})

t.test('a user has so many transfers at once, another has as many', async (t) => {
  const { address, workspace, call } = await start(t)
  const head = ['PUT /api/files/content?path=x HTTP/1.1', 'content-length: 9']
  const uploads = await Promise.all(Array.from({ length: 16 }, () => openSocket(t, address, head)))
  await until('all places are taken', async () => (await readdir(workspace)).length === 16)
  t.equal(await codeOf(await call('')), '429 CC_TOO_MANY_IN_FLIGHT')
  t.equal((await call('?userId=bob', { headers: { 'x-user-id': 'bob' } })).status, 200)
  for (const socket of uploads) socket.destroy()
  await until('there is room again', async () => (await call('')).status === 200)
})

/** As the agent of a user could run it: `dir` is a directory, then a link out, and so on. */
const SWAPPER = `
const { renameSync } = require('node:fs')
process.stdout.write('swapping')
for (;;) { renameSync('dir', 'spare'); renameSync('evil', 'dir'); renameSync('dir', 'evil'); renameSync('spare', 'dir') }
`

t.test('a directory that becomes a symlink and back, all the time, is never a way out', async (t) => {
  const { dataDir, workspace, call, put, get } = await start(t)
  const outside = join(dataDir, 'outside')
  await mkdir(join(outside, 'inner'), { recursive: true })
  await writeFile(join(outside, 'secret'), SECRET)
  await writeFile(join(outside, 'inner', 'kept'), SECRET)
  await mkdir(join(workspace, 'dir', 'inner'), { recursive: true })
  await writeFile(join(workspace, 'dir', 'secret'), 'harmless')
  await symlink(outside, join(workspace, 'evil'))
  const swapper = spawn(process.execPath, ['-e', SWAPPER], { cwd: workspace, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(swapper, 'exit')
  t.teardown(() => swapper.kill('SIGKILL'))
  await once(swapper.stdout, 'data')

  const outcomes = { inside: 0, refused: 0, missing: 0 }
  const archived = { entries: 0, secrets: 0 }
  const end = Date.now() + 4_000
  const loop = async (ask: () => Promise<Response>, look: (body: Buffer) => void = () => {}) => {
    while (Date.now() < end) {
      const response = await ask()
      const body = Buffer.from(await response.arrayBuffer())
      if (body.includes(SECRET)) t.fail('the secret was told')
      if (response.ok) {
        outcomes.inside++
        look(body)
      } else if (body.includes('CC_OUTSIDE_WORKSPACE')) outcomes.refused++
      else outcomes.missing++
    }
  }
  await Promise.all([
    loop(() => get('dir/secret')),
    loop(() => put('dir/inner/planted', 'planted')),
    loop(() => put('dir/secret2', 'planted')),
    loop(() => call('?path=dir/inner/kept', { method: 'DELETE' })),
    loop(() => call('?path=dir/inner/planted', { method: 'DELETE' })),
    loop(
      () => call('?depth=4'),
      (body) => {
        if (body.includes('/kept')) t.fail('the listing went outside')
      }
    ),
    loop(
      () => call('/archive'),
      (body) => {
        for (const [name, content] of unzip(body)) {
          archived.entries++
          if (content.includes(SECRET) || name.endsWith('kept')) archived.secrets++
        }
      }
    )
  ])
  swapper.kill('SIGKILL')
  await ended
  t.comment(JSON.stringify({ outcomes, archived }))
  t.ok(outcomes.inside > 0 && outcomes.refused > 0, 'both sides of the swap were met')
  t.ok(archived.entries > 0)
  t.equal(archived.secrets, 0)
  t.strictSame((await readdir(outside, { recursive: true })).sort(), ['inner', 'inner/kept', 'secret'])
  t.equal(await readFile(join(outside, 'secret'), 'utf8'), SECRET)
  t.equal(await readFile(join(outside, 'inner', 'kept'), 'utf8'), SECRET)
  t.strictSame(await openBelow(workspace), [])
})
