import { spawnSync } from 'node:child_process'
import { chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import { locateCodexBinary } from '../../src/codex/binary.ts'
import { userKey } from '../../src/isolation/user-directories.ts'
import { ATTACKS, renderAttacks } from '../support/attacks.ts'
import { scratchDirectory } from '../support/gateway.ts'
import { type Account, type GatewayProcess, startGatewayProcess } from '../support/gateway-process.ts'
import { TestClient } from '../support/ws-client.ts'

const B_SECRET = 'the-secret-of-bob'
const B_MARK = 'process-of-bob-7391'
const KEY = 'the-key-of-the-gateway-which-nobody-sees'
/** nobody's. */
const ORDINARY: Account = { uid: 65534, gid: 65534 }
const isRoot = process.getuid?.() === 0
const ownAccount = isRoot ? 'root' : 'an ordinary user'

const canBox = spawnSync('unshare', ['--user', '--map-root-user', 'true']).status === 0
const noBox = !canBox && 'this host makes no user namespaces, so nothing can be isolated: see docs/DEPLOY.md'

t.test('with bubblewrap, no attack works', { skip: noBox }, async (t) => {
  await t.test(`as ${ownAccount}`, (t) => attackAll(t, 'bubblewrap'))
  const skip = !isRoot && 'only root can start a gateway as somebody else'
  await t.test('as an ordinary user, started by root', { skip }, (t) => attackAll(t, 'bubblewrap', ORDINARY))
})

t.test('without isolation the same attacks work, so that they can fail', (t) => attackAll(t, 'none'))

interface Place {
  root: string
  workspace: string
  codexHome: string
}

/** B has secrets and a running process; A runs every attack, in one command that an accepted approval lets out. */
async function attackAll(t: Test, isolation: 'bubblewrap' | 'none', account?: Account): Promise<void> {
  const dataDir = await scratchDirectory(t)
  if (account) await chown(dataDir, account.uid, account.gid)
  const gateway = await startGatewayProcess(t, { DATA_DIR: dataDir, ISOLATION: isolation, AUDIT_KEY: KEY }, account)
  const b = await moveIn(t, gateway, 'bob')
  const files = await hideSecrets(t, b, account)
  await runOutside(b.client, `env BOB=${B_MARK} sh -c "sleep 600; : ${B_MARK}"`)

  const a = await moveIn(t, gateway, 'alice')
  const script = renderAttacks({
    B_SECRET,
    B_MARK,
    B_PATTERN: `[${B_MARK[0]}]${B_MARK.slice(1)}`,
    B_WORKSPACE: b.place.workspace,
    B_HOME: b.place.codexHome,
    ...files,
    KEY,
    DATA_DIR: dataDir,
    WORKSPACE_ROOT: join(dataDir, 'workspaces'),
    GATEWAY_DIRECTORY: resolve('.'),
    HOST_TEMPORARY: tmpdir(),
    CODEX_BINARY: locateCodexBinary(),
    OWN_HOME: isolation === 'none' ? a.place.codexHome : '/codex-home'
  })
  await writeFile(join(a.place.workspace, 'attacks.sh'), script)
  const { turnId } = await runOutside(a.client, 'timeout 120 sh ./attacks.sh')
  await a.client.waitForTurnEnd(turnId)

  const text = await readFile(join(a.place.workspace, 'results'), 'utf8')
  t.match(text, /^done$/m, 'every attack was tried')
  const worked = new Map(
    [...text.matchAll(/^(\d+) (\d+)$/gm)].map(([, index, status]) => [Number(index), status === '0'])
  )
  for (const [index, { name, withoutIsolation }] of ATTACKS.entries()) {
    const output = await readFile(join(a.place.workspace, `out.${index}`), 'utf8').catch(() => '')
    if (isolation === 'bubblewrap') t.equal(worked.get(index), false, `${name}: fails`, { output })
    else if (withoutIsolation === 'works' || (withoutIsolation === 'works for root' && isRoot)) {
      t.equal(worked.get(index), true, `${name}: works`, { output })
    }
  }
}

async function moveIn(t: Test, { address, dataDir }: GatewayProcess, userId: string) {
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=${userId}`)
  await client.call('thread/start', {})
  const key = userKey(userId)
  const root = join(dataDir, 'homes', key)
  const place: Place = { root, workspace: join(dataDir, 'workspaces', key), codexHome: join(root, 'codex') }
  return { client, place }
}

/** What B has in files: in the workspace, in the host's /tmp and in shared memory. */
async function hideSecrets(t: Test, { place }: { place: Place }, account?: Account): Promise<Record<string, string>> {
  const [temporary, shared] = await Promise.all(
    [tmpdir(), '/dev/shm'].map((parent) => mkdtemp(join(parent, 'of-bob-')))
  )
  t.teardown(() => Promise.all([temporary, shared].map((path) => rm(path as string, { recursive: true }))))
  const paths = [
    join(place.workspace, 'secret.txt'),
    join(temporary as string, 'secret'),
    join(shared as string, 'secret')
  ]
  for (const path of [...paths, temporary as string, shared as string]) {
    if (paths.includes(path)) await writeFile(path, B_SECRET, { mode: 0o600 })
    if (account) await chown(path, account.uid, account.gid)
  }
  return { B_TEMPORARY: paths[1] as string, B_SHARED: paths[2] as string }
}

/** Has a command run outside codex's sandbox, as its owner accepts it. */
async function runOutside(client: TestClient, command: string): Promise<{ turnId: string }> {
  const turn = await client.startTurn(`escalate: ${command}`)
  const { payload } = await client.waitFor('approval/request', ({ turnId }) => turnId === turn.turnId)
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
  return turn
}
