import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import demoModel from '../../plugins/demo-model.ts'
import { HomeTemplate } from '../../src/codex/home-template.ts'
import { pipedOutput } from '../../src/codex/output-socket.ts'
import { ProcessPool } from '../../src/codex/pool.ts'
import { CodexProcess, type ProcessHandlers } from '../../src/codex/process.ts'
import { prepareShims } from '../../src/codex/shims.ts'
import type { Launcher } from '../../src/isolation/launcher.ts'
import { noneLauncher } from '../../src/isolation/none-launcher.ts'
import { scratchDirectory } from '../support/gateway.ts'
import { testedCodex } from '../support/tested-codex.ts'

const START_TIMEOUT_MS = 30_000
const DEAD_MODEL = 'http://127.0.0.1:1/v1'
const silent: ProcessHandlers = { onNotification() {}, onRequest() {}, onBatchEnd() {}, onGarbage() {}, onExit() {} }

/** A directory with a program that writes each call's arguments to a log and then does `then`. */
async function spyProgram(directory: string, name: string, then: string): Promise<() => string[]> {
  await mkdir(directory, { recursive: true })
  const log = join(directory, `${name}.log`)
  await writeFile(join(directory, name), `#!/bin/sh\necho "$*" >> "${log}"\n${then}\n`)
  await chmod(join(directory, name), 0o755)
  return () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [])
}

/** A proxy that notes who was to be reached, and reaches nobody. */
async function spyProxy(t: Test): Promise<{ env: Record<string, string>; asked: string[]; first: Promise<unknown> }> {
  const asked: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      asked.push(head.toString('latin1').split('\r\n')[0] ?? '')
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
    })
  })
  const first = once(server, 'connection')
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { env: { HTTPS_PROXY: url, HTTP_PROXY: url, ALL_PROXY: url, https_proxy: url }, asked, first }
}

async function startPool(
  t: Test,
  path: string,
  env: Record<string, string> = {},
  baseUrl = DEAD_MODEL
): Promise<ProcessPool> {
  const dataDir = await scratchDirectory(t)
  const launcher: Launcher = {
    ...noneLauncher,
    launch: (spec) => noneLauncher.launch({ ...spec, env: { ...spec.env, ...env } })
  }
  const pool = new ProcessPool({
    dataDir,
    workspaceRoot: join(dataDir, 'workspaces'),
    binary: testedCodex(),
    codexVersion: 'test',
    clientVersion: '0',
    maxProcesses: 2,
    launcher,
    provider: { baseUrl, requiresLogin: false },
    model: 'gpt-5.5',
    gatewayEnv: { PATH: path },
    startTimeoutMs: START_TIMEOUT_MS
  })
  await pool.prepare()
  t.teardown(() => pool.close())
  return pool
}

async function startThread(pool: ProcessPool, process: CodexProcess): Promise<string> {
  const { workspace } = await pool.prepareDirectories('alice')
  const { thread } = (await process.request('thread/start', { cwd: workspace }, START_TIMEOUT_MS)) as {
    thread: { id: string }
  }
  return thread.id
}

async function startTurn(process: CodexProcess, threadId: string, text: string): Promise<void> {
  await process.request(
    'turn/start',
    { threadId, input: [{ type: 'text', text, text_elements: [] }] },
    START_TIMEOUT_MS
  )
}

/** Waits for the end of a turn; give its handler to the process that runs it. */
class Ending {
  #resolve: (notification: unknown) => void = () => {}
  readonly turn = new Promise<unknown>((resolve) => {
    this.#resolve = resolve
  })
  readonly onNotification = (method: string, bytes: Buffer, start: number, end: number) => {
    if (method === 'turn/completed') this.#resolve(JSON.parse(bytes.toString('utf8', start, end)))
  }
}

t.test('codex starts without calling out, in the time in which one with default settings does', async (t) => {
  const [ours, control] = [await spyProxy(t), await spyProxy(t)]
  const pool = await startPool(t, process.env.PATH ?? '', ours.env)
  await startThread(pool, await pool.start('alice', silent))

  const home = await scratchDirectory(t)
  const env = { PATH: process.env.PATH ?? '', HOME: home, CODEX_HOME: home, ...control.env }
  const child = spawn(testedCodex(), ['app-server'], { cwd: home, env })
  const plain = new CodexProcess(child, pipedOutput(child.stdout), 'start-test-control', silent)
  t.teardown(() => plain.stop())
  await plain.initialize('0', START_TIMEOUT_MS)
  await control.first

  t.same(ours.asked, [])
})

t.test('neither lsb_release nor the probe of bubblewrap runs at a start, and codex warns of nothing', async (t) => {
  const spies = await scratchDirectory(t)
  const releases = await spyProgram(spies, 'lsb_release', 'exit 0')
  const sandboxes = await spyProgram(spies, 'bwrap', 'exit 0')
  const pool = await startPool(t, `${spies}:${process.env.PATH}`)
  const notices: string[] = []
  const threadStarted = new Promise<void>((resolve) => {
    pool
      .start('alice', {
        ...silent,
        onNotification: (method) => {
          notices.push(method)
          if (method === 'thread/started') resolve()
        }
      })
      .then((codex) => startThread(pool, codex))
      .catch((error: Error) => t.fail(error.message))
  })
  await threadStarted

  t.same([...releases(), ...sandboxes()], [])
  t.notOk(notices.some((method) => /warning/i.test(method)))
})

t.test('codex probes bubblewrap by itself where the one that comes with it is missing or does not work', async (t) => {
  const directory = await scratchDirectory(t)
  const binary = join(directory, 'bin', 'codex')
  t.same(await readdir(await prepareShims(directory, binary)), ['lsb_release'])
  const probes = await spyProgram(join(directory, 'codex-resources'), 'bwrap', 'exit 1')
  t.same(await readdir(await prepareShims(directory, binary)), ['lsb_release'])
  t.same(probes(), ['--unshare-user --unshare-net --ro-bind / / /bin/true'])
})

t.test('patches are applied inside the sandbox with the bubblewrap that comes with codex', async (t) => {
  const model = Fastify()
  await model.register(demoModel)
  t.teardown(() => model.close())
  const spies = await scratchDirectory(t)
  const sandboxes = await spyProgram(spies, 'bwrap', 'exit 1')
  const pool = await startPool(t, `${spies}:${process.env.PATH}`, {}, model.demoModel.baseUrl)
  const ended = new Ending()
  const codex = await pool.start('alice', { ...silent, onNotification: ended.onNotification })
  const text = 'patch: *** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch'
  await startTurn(codex, await startThread(pool, codex), text)

  t.match(await ended.turn, { params: { turn: { status: 'completed' } } })
  const { workspace } = await pool.prepareDirectories('alice')
  t.equal(await readFile(join(workspace, 'made.txt'), 'utf8'), 'hello\n')
  t.same(sandboxes(), [])
})

t.test('new homes are copies of the template, without what belongs to one home alone', async (t) => {
  const directory = await scratchDirectory(t)
  const path = join(directory, 'template')
  await mkdir(`${path}.left-behind`)
  const fill = async (home: string) => {
    await mkdir(join(home, 'skills'))
    for (const file of ['state.sqlite', 'installation_id', 'config.toml', 'skills/one']) {
      await writeFile(join(home, file), file)
    }
  }
  const template = new HomeTemplate(path)
  await template.prepare(fill)
  t.equal((await readdir(directory)).length, 2, 'the template and one copy ahead; the leftover is gone')

  const homes = ['a', 'b', 'c'].map((name) => join(directory, 'homes', name))
  for (const home of homes) await mkdir(home, { recursive: true })
  const [first, second, used] = homes as [string, string, string]
  await writeFile(join(used, 'mine'), '')
  for (const home of homes) await template.seed(home)
  t.equal((await readdir(directory)).length, 2, 'the copy ahead became the first home')
  for (const home of [first, second]) {
    t.same((await readdir(home)).sort(), ['skills', 'state.sqlite'])
    t.equal(await readFile(join(home, 'skills', 'one'), 'utf8'), 'skills/one')
  }
  t.same(await readdir(used), ['mine'], 'a home that has been used is left alone')

  await template.prepare(fill)
  t.equal((await readdir(directory)).length, 3, 'the next copy ahead')
  await template.close()
  await new HomeTemplate(path).prepare(async () => {
    t.fail('the template is there already')
  })
  t.equal((await readdir(directory)).length, 3, 'the copy of the gateway before is replaced, not added to')
})

t.test(
  'a turn fails cleanly when nobody listens at the model endpoint',
  // codex retries for 25 s before it gives up.
  { timeout: 90_000 },
  async (t) => {
    const pool = await startPool(t, process.env.PATH ?? '')
    const ended = new Ending()
    const codex = await pool.start('alice', { ...silent, onNotification: ended.onNotification })
    await startTurn(codex, await startThread(pool, codex), 'hello')
    t.match(await ended.turn, { params: { turn: { status: 'failed' } } })
  }
)
