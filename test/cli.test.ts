import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cli } from './support/cli.ts'
import { scratchDirectory, startGateway } from './support/gateway.ts'
import { startGatewayProcess } from './support/gateway-process.ts'
import { eventually } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

t.test('audit verify says that a log is whole, and names the line of a changed record', async (t) => {
  const { address, dataDir, close } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await client.waitForTurnEnd((await client.startTurn('escalate: ls')).turnId)
  await close()

  t.match(await cli(['audit', 'verify'], { DATA_DIR: dataDir }), { code: 0, output: /^OK\. 1 sound records/ })

  const file = join(dataDir, 'audit', 'audit-000001.jsonl')
  await writeFile(file, (await readFile(file, 'utf8')).replace('"accepted"', '"declined"'))
  t.match(await cli(['audit', 'verify', file]), {
    code: 1,
    output: /^NOT OK.*\naudit-000001\.jsonl:1 record 1 changed/
  })
})

t.test('what cannot be done says how it is done', async (t) => {
  t.match(await cli(['--help']), { code: 0, output: /^Usage:/ })
  t.match(await cli([]), { code: 2, output: /^Usage:/ })
  t.match(await cli(['audit', 'forge']), { code: 2, output: /^Usage:/ })
  t.match(await cli(['audit', 'verify', '/no/such/place']), { code: 2, output: /there is no/ })
})

t.test('a data directory that is lost at a reboot, or cannot be, is said at the start', async (t) => {
  const warned = /DATA_DIR is a temporary directory/
  const usual = await startGatewayProcess(t)
  await eventually('the last line of the start', 5_000, () => /NO OS ISOLATION/.test(usual.output()))
  t.notMatch(usual.output(), warned)
  const temporary = `/tmp/cloud-codex-test-${process.pid}`
  t.teardown(() => rm(temporary, { recursive: true, force: true }))
  const { output } = await startGatewayProcess(t, { DATA_DIR: temporary })
  t.ok(await eventually('the warning', 5_000, () => warned.test(output())))

  const file = join(await scratchDirectory(t), 'file')
  await writeFile(file, '')
  t.match(await cli(['serve'], { DATA_DIR: file }), { code: 1, output: /CC_CONFIG_INVALID.*DATA_DIR cannot be made/ })
})
