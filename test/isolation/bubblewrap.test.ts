import { spawnSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { locateCodexBinary } from '../../src/codex/binary.ts'
import { chooseBubblewrap } from '../../src/isolation/choose-bubblewrap.ts'
import { PROTECTED_NAMES } from '../../src/isolation/codex-home-guard.ts'
import { noneLauncher } from '../../src/isolation/none-launcher.ts'
import { findBreaches } from '../../src/isolation/preflight.ts'
import { prepareUserDirectories, userKey } from '../../src/isolation/user-directories.ts'
import { type Gateway, scratchDirectory, startGateway } from '../support/gateway.ts'
import { runServer } from '../support/gateway-process.ts'
import { eventually } from '../support/processes.ts'
import { TestClient } from '../support/ws-client.ts'

const canBox = spawnSync('unshare', ['--user', '--map-root-user', 'true']).status === 0
const skip = !canBox && 'this host makes no user namespaces, so nothing can be isolated: see docs/DEPLOY.md'
const ISOLATION = 'bubblewrap'

function connect(t: Test, { address }: Gateway, userId = 'alice'): Promise<TestClient> {
  return TestClient.connect(t, `ws://${address}/ws?userId=${userId}`)
}

async function accept(client: TestClient, text: string): Promise<void> {
  const { turnId } = await client.startTurn(text)
  const { payload } = await client.waitFor('approval/request', (approval) => approval.turnId === turnId)
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
  await client.waitForTurnEnd(turnId)
}

t.test('a user of a box', { skip }, async (t) => {
  const gateway = await startGateway(t, { ISOLATION })
  const client = await connect(t, gateway)
  const workspace = join(gateway.dataDir, 'workspaces', userKey('alice'))
  const home = join(gateway.dataDir, 'homes', userKey('alice'))

  await t.test('works in /workspace, relative or absolute, and nowhere else', async (t) => {
    t.equal((await client.call('thread/start', {})).cwd, '/workspace')
    t.equal((await client.call('thread/start', { workingDirectory: 'a/b' })).cwd, '/workspace/a/b')
    t.equal((await client.call('thread/start', { workingDirectory: '/workspace/a' })).cwd, '/workspace/a')
    t.strictSame(await readdir(join(workspace, 'a')), ['b'], 'made on the host')
    for (const cwd of [workspace, '/codex-home', '/etc', '../x', '/workspace/../codex-home']) {
      await t.rejects(client.call('thread/start', { cwd }), /CC_OUTSIDE_WORKSPACE/, cwd)
    }
    await symlink('/etc', join(workspace, 'out'))
    await t.rejects(client.call('thread/start', { cwd: 'out' }), /CC_OUTSIDE_WORKSPACE/)
  })

  await t.test('runs commands in codex’s own sandbox, and out of it when that is accepted', async (t) => {
    const { turnId } = await client.startTurn('run: touch /workspace/in-the-sandbox /codex-home/not')
    await client.waitForTurnEnd(turnId)
    await accept(client, 'escalate: sh -c "touch /workspace/outside /tmp/kept && id -un > who"')
    t.ok((await readdir(workspace)).includes('in-the-sandbox'))
    t.notOk((await readdir(join(home, 'codex'))).includes('not'))
    t.ok((await readdir(join(home, 'tmp'))).includes('kept'))
    t.equal(await readFile(join(workspace, 'who'), 'utf8'), 'codex\n')
  })

  await t.test('has files and patches over the same paths', async (t) => {
    await client.call('fs/writeFile', { path: '/workspace/made.txt', dataBase64: btoa('by a client') })
    t.equal(await readFile(join(workspace, 'made.txt'), 'utf8'), 'by a client')
    t.equal(atob((await client.call('fs/readFile', { path: '/workspace/made.txt' })).dataBase64), 'by a client')
    await t.rejects(client.call('fs/readFile', { path: join(workspace, 'made.txt') }))
    const { turnId } = await client.startTurn(
      'patch: *** Begin Patch\n*** Add File: patched.txt\n+by a patch\n*** End Patch'
    )
    await client.waitForTurnEnd(turnId)
    t.equal(await readFile(join(workspace, 'patched.txt'), 'utf8'), 'by a patch\n')
  })

  await t.test('is judged by what codex sees: /tmp and symlinks are those of the box', async (t) => {
    await writeFile(join(home, 'tmp', 'file'), '')
    await symlink('/codex-home/config.toml', join(home, 'tmp', 'sly'))
    await symlink(join(workspace, 'made.txt'), join(workspace, 'host-path'))
    const evaluate = async (command: string) => {
      const body = { kind: 'command', command }
      const headers = { 'x-user-id': 'alice' }
      return (await gateway.app.inject({ method: 'POST', url: '/api/policy/evaluate', headers, payload: body })).json()
    }
    const verdicts = {
      'cat made.txt': 'accept',
      'cat /workspace/made.txt': 'accept',
      'cat /tmp/file': 'accept',
      'git status': 'accept',
      'cat /tmp/sly': 'ask',
      'cat host-path': 'ask',
      'cat /codex-home/config.toml': 'ask',
      [`cat ${workspace}/made.txt`]: 'ask'
    }
    for (const [command, verdict] of Object.entries(verdicts)) {
      const answer = await evaluate(command)
      t.equal(answer.verdict, verdict, `${command}: ${answer.reason}`)
      t.equal(answer.workspace, '/workspace')
    }
  })

  await t.test('finds nothing that an earlier process left for a start, nor in /tmp', async (t) => {
    await accept(client, 'escalate: sh -c "echo X=1 > /codex-home/.env; echo > /codex-home/environments.toml"')
    t.ok((await readdir(join(home, 'codex'))).includes('.env'))
    await gateway.app.sessions.list()[0]?.stopProcess('idle')
    await client.call('thread/start', {})
    const names = await readdir(join(home, 'codex'))
    t.notOk((await readdir(join(home, 'tmp'))).includes('kept'))
    t.notOk(names.includes('.env') || names.includes('environments.toml'))
  })
})

t.test('a box ends with all that it started, also when its gateway is not asked', { skip }, async (t) => {
  const gateway = await startGateway(t, { ISOLATION })
  const client = await connect(t, gateway)
  await accept(client, 'escalate: sh -c "env -i setsid sleep 4217 < /dev/null > /dev/null 2>&1 &"')
  const running = () => spawnSync('grep', ['-lsa', '[4]217', ...procFiles()]).stdout.length > 0
  t.ok(running(), 'a daemon without our mark runs')
  await gateway.app.sessions.list()[0]?.stopProcess('idle')
  await eventually('the daemon is gone', 5_000, () => !running())
})

function procFiles(): string[] {
  return spawnSync('sh', ['-c', 'ls -d /proc/[0-9]*/cmdline'], { encoding: 'utf8' }).stdout.trim().split('\n')
}

t.test(
  'what is planted in a home before it is guarded does not stay: links, other names of files',
  { skip },
  async (t) => {
    const dataDir = await scratchDirectory(t)
    const roots = { dataDir, workspaceRoot: join(dataDir, 'workspaces') }
    const directories = await prepareUserDirectories(roots, 'alice')
    const binary = locateCodexBinary()
    const { launcher } = await chooseBubblewrap({ ...roots, binary, readablePaths: [], gatewayEnv: process.env })
    const at = (name: string) => join(directories.codexHome, name)
    await symlink('/', at('rules'))
    await symlink('/etc/passwd', at('AGENTS.md'))
    await mkdir(at('hooks.json'))
    await launcher?.prepare({ directories })
    const entries = await readdir(directories.codexHome, { withFileTypes: true })
    t.strictSame(entries.map(({ name }) => name).sort(), [...PROTECTED_NAMES].sort())
    t.ok(entries.every((entry) => entry.isDirectory() || entry.isFile()))
  }
)

t.test('the preflight', { skip }, async (t) => {
  const dataDir = await scratchDirectory(t)
  const roots = { dataDir, workspaceRoot: join(dataDir, 'workspaces') }
  const options = { ...roots, binary: locateCodexBinary() }

  await t.test('names every breach of a launcher that does not isolate, and leaves nothing behind', async (t) => {
    const breaches = (await findBreaches(noneLauncher, options)).join('\n')
    t.match(breaches, /secret can be read/)
    t.match(breaches, /config\.toml can be changed/)
    t.match(breaches, /the pid namespace is the host's/)
    t.strictSame(await readdir(join(dataDir, 'homes')), [])
    t.strictSame(await readdir(roots.workspaceRoot), [])
  })

  await t.test('finds that what may be read holds the data', async (t) => {
    const { problem } = await chooseBubblewrap({ ...options, readablePaths: [dataDir], gatewayEnv: {} })
    t.match(problem, /secret can be read/)
  })

  await t.test('without it, a gateway that was told to isolate does not start, nor one in production', async (t) => {
    const broken = join(dataDir, 'bin')
    await mkdir(broken)
    await writeFile(
      join(broken, 'bwrap'),
      '#!/bin/sh\necho "bwrap: No permissions to create new namespace" >&2; exit 1\n'
    )
    await chmod(join(broken, 'bwrap'), 0o755)
    // A codex without a package of its own, so that the bubblewrap on PATH is the only one.
    await symlink(options.binary, join(broken, 'codex'))
    const variables = { PATH: `${broken}:${process.env.PATH}`, CODEX_BIN: join(broken, 'codex') }
    for (const more of [
      { ISOLATION: 'bubblewrap' },
      { ISOLATION: 'auto', NODE_ENV: 'production', OPENAI_API_KEY: 'sk-x', HOST: '127.0.0.1' }
    ]) {
      const { code, output } = await runServer(t, { ...variables, ...more })
      t.equal(code, 1)
      t.match(output, /CC_ISOLATION_UNAVAILABLE: .*No permissions to create new namespace.*ISOLATION=none/)
    }
    const gateway = await startGateway(t, { ...variables, ISOLATION: 'auto' })
    t.equal(gateway.app.launcher.name, 'none', 'on a laptop, auto goes on without')
  })

  await rm(dataDir, { recursive: true, force: true })
})
