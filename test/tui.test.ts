import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Gateway, startGateway } from './support/gateway.ts'
import { HOLD, startHeldModel } from './support/held-model.ts'
import { noTerminal } from './support/terminal.ts'
import { bearer, TEST_SECRET, tokenFor } from './support/tokens.ts'
import { Tui } from './support/tui.ts'
import { TestClient } from './support/ws-client.ts'

const options = { skip: noTerminal, timeout: 300_000 }
if (noTerminal) t.comment(`SKIPPED: ${noTerminal}`)

interface Stage {
  gateway: Gateway
  workspace: string
  startTui(...args: string[]): Promise<Tui>
  connect(): Promise<TestClient>
}

async function startStage(t: Test, variables: Record<string, string> = {}): Promise<Stage> {
  const gateway = await startGateway(t, { JWT_SECRET: TEST_SECRET, HOST: '127.0.0.1', ...variables })
  const { workspace } = await gateway.app.pool.prepareDirectories('alice')
  return {
    gateway,
    workspace,
    startTui: async (...args) => Tui.start(t, gateway.address, await tokenFor('alice'), args),
    connect: async () => TestClient.connect(t, `ws://${gateway.address}/ws`, { headers: await bearer('alice') })
  }
}

/** A screen as text, in the test's output. */
function show(t: Test, what: string, screen: string): void {
  t.comment(`---- ${what}`)
  for (const line of screen.split('\n')) t.comment(`| ${line}`)
}

t.test('a person at the official TUI: answer, commands, approvals, quit, resume', options, async (t) => {
  const model = await startHeldModel(t)
  const { workspace, startTui } = await startStage(t, { MODEL_BASE_URL: model.baseUrl, MODEL: 'gpt-5.5' })
  const tui = await startTui()
  const { terminal } = tui
  show(t, 'started', await tui.ready())

  await tui.say(`hello\n${HOLD} the rest`)
  const half = await terminal.waitFor(new RegExp(`You said: hello ${HOLD}`))
  show(t, 'in the middle of the answer', half)
  t.notMatch(half.replaceAll(/\s+/g, ' '), `You said: hello ${HOLD} the rest`, 'the answer has not ended yet')
  model.release()
  show(t, 'the answer', await terminal.waitFor(new RegExp(`You said: hello ${HOLD} the rest`)))

  await tui.say('escalate: ls -la')
  const listed = await terminal.waitFor(/Done\. The tool said.*total \d+/)
  show(t, 'a command that the policy accepts', listed)
  t.notMatch(listed, /Would you like to run/, 'nobody was asked')

  await tui.say('escalate: touch yes.txt')
  show(t, 'a command that the policy asks about', await tui.asked('touch yes.txt'))
  t.notOk(existsSync(join(workspace, 'yes.txt')), 'it waits')
  await terminal.press('y')
  show(t, 'y', await terminal.waitFor(/You approved codex to run touch yes\.txt/))
  await terminal.waitFor(/Ran touch yes\.txt/)
  await tui.ready()
  t.ok(existsSync(join(workspace, 'yes.txt')), 'it ran')

  await tui.say('escalate: touch no.txt')
  await tui.asked('touch no.txt')
  await terminal.press('Escape')
  show(t, 'Esc', await terminal.waitFor(/You canceled the request to run touch no\.txt/))
  await tui.ready()
  t.notOk(existsSync(join(workspace, 'no.txt')), 'it did not run')

  t.equal(await tui.quit(), 0, 'it quits')

  const again = await startTui('resume')
  show(t, 'the picker', await again.terminal.waitFor(/Resume a previous session.*hello/))
  await again.terminal.press('Enter')
  await again.ready()
  show(t, 'resumed', await again.terminal.waitFor(/touch yes\.txt.*touch no\.txt/))
  await again.say('and now?')
  await again.terminal.waitFor(/You said: and now\?/)
  await again.quit()
})

t.test('TUI and /ws on one thread', options, async (t) => {
  const { workspace, startTui, connect } = await startStage(t)
  const browser = await connect()
  const tui = await startTui()
  await tui.ready()

  await tui.say('greetings from the terminal')
  const spoken = await browser.waitForEvent(
    'item/completed',
    ({ item }) => item.type === 'userMessage' && item.content[0].text === 'greetings from the terminal'
  )
  const { threadId } = spoken.payload.params
  await browser.waitForEvent(
    'item/completed',
    ({ item, ...params }) => params.threadId === threadId && /You said: greetings/.test(item.text)
  )
  await tui.ready()
  t.pass('/ws sees the turn of the TUI')

  const { turnId } = await browser.startTurn('greetings from the browser', threadId)
  await browser.waitForTurnEnd(turnId)
  show(
    t,
    'the turn of /ws',
    await tui.terminal.waitFor(/greetings from the browser.*You said: greetings from the browser/)
  )

  await t.test('raised by the TUI, answered on /ws', async (t) => {
    await tui.say('escalate: touch one.txt')
    await tui.asked('touch one.txt')
    const { payload } = await browser.waitFor('approval/request', ({ command }) => /one\.txt/.test(command))
    await browser.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
    const after = await tui.terminal.waitFor((words) => !/Would you like/.test(words) && /Ran touch one/.test(words))
    show(t, 'it is gone from the TUI, and the command ran', after)
    await tui.ready()
    t.ok(existsSync(join(workspace, 'one.txt')))
  })

  await t.test('raised on /ws, answered in the TUI', async (t) => {
    const { turnId } = await browser.startTurn('escalate: touch two.txt', threadId)
    show(t, 'the TUI asks', await tui.asked('touch two.txt'))
    await tui.terminal.press('y')
    const { payload } = await browser.waitFor('approval/request', ({ command }) => /two\.txt/.test(command))
    const resolved = await browser.waitFor('approval/resolved', ({ approvalId }) => approvalId === payload.approvalId)
    t.match(resolved.payload, { outcome: 'accepted', decision: 'accept', by: { kind: 'user', id: 'alice' } })
    await browser.waitForTurnEnd(turnId)
    show(t, 'both show the outcome', await tui.terminal.waitFor(/Ran touch two\.txt/))
    t.ok(existsSync(join(workspace, 'two.txt')))
  })
  await tui.quit()
})

t.test('a TUI that is killed in the middle of a turn, and one that comes after it', options, async (t) => {
  const model = await startHeldModel(t)
  const { startTui } = await startStage(t, { MODEL_BASE_URL: model.baseUrl, MODEL: 'gpt-5.5' })
  const first = await startTui()
  await first.say(`a long story\n${HOLD} and its end`)
  show(t, 'before the kill', await first.terminal.waitFor(/You said: a long story/))
  await first.terminal.kill()

  const second = await startTui('resume', '--last')
  const attached = await second.terminal.waitFor(/a long story.*esc to interrupt/i)
  show(t, 'reattached', attached)
  t.notMatch(attached, /You said/, 'the turn still runs')
  model.release()
  const rest = new RegExp(`You said: a long story ${HOLD} and its end`)
  show(t, 'the rest', await second.terminal.waitFor(rest))
  t.match((await second.ready()).replaceAll(/\s+/g, ' '), rest)
  await second.quit()
})
