import t from 'tap'
import { startGatewayProcess } from './support/gateway-process.ts'
import { eventually, processesOf, untilGone } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

/** What the service promises for SIGTERM, and this machine's slowness. */
const SHUTDOWN_BOUND_MS = 5_000

t.test('a gateway that is killed during a turn leaves no codex process and no command behind', async (t) => {
  const { child, address, dataDir } = await startGatewayProcess(t, { LOG_LEVEL: 'info' })
  const alice = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  await alice.startTurn('run: sleep 1001')
  const bob = await TestClient.connect(t, `ws://${address}/ws?userId=bob`)
  await bob.startTurn('escalate: (nohup setsid sleep 1002 >/dev/null 2>&1 &) ; sleep 1003')
  const { payload } = await bob.waitFor('approval/request')
  await bob.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
  for (const command of ['sleep 1001', 'sleep 1002', 'sleep 1003']) {
    await eventually(`${command} runs`, 20_000, async () =>
      (await processesOf(dataDir)).some((found) => found.command === command)
    )
  }

  child.kill('SIGKILL')
  const ms = await untilGone(dataDir, SHUTDOWN_BOUND_MS)
  t.ok(ms < SHUTDOWN_BOUND_MS, `all gone after ${ms} ms`)
})
