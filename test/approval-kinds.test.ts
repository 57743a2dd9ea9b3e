import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { Decision } from '../schemas/approvals.ts'
import {
  APPROVAL_CASES,
  type ApprovalCase,
  CODEX_SETTINGS,
  DYNAMIC_TOOLS,
  escalate,
  question,
  run
} from './support/approval-cases.ts'
import { codexWith } from './support/codex-with.ts'
import { type Gateway, scratchDirectory, startGateway } from './support/gateway.ts'
import { call, type ScriptedModel, startScriptedModel } from './support/scripted-responses.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const COMMAND = caseOf('command')
const UNANSWERED = /Nobody answered the approval request/

interface Stage {
  gateway: Gateway
  model: ScriptedModel
  outside: string
}

async function startStage(t: Test, variables: Record<string, string> = {}, logger?: FastifyBaseLogger): Promise<Stage> {
  const model = await startScriptedModel(t)
  const outside = await scratchDirectory(t)
  const CODEX_BIN = await codexWith(t, CODEX_SETTINGS)
  // HOST: loopback is not the default of a gateway with auth and a model endpoint.
  const env = { MODEL_BASE_URL: model.baseUrl, MODEL: 'gpt-5.5', HOST: '127.0.0.1', CODEX_BIN, ...variables }
  return { gateway: await startGateway(t, env, logger), model, outside }
}

function connect(t: Test, { gateway }: Stage, userId = 'alice'): Promise<TestClient> {
  return TestClient.connect(t, `ws://${gateway.address}/ws?userId=${userId}`)
}

async function startThread(client: TestClient): Promise<string> {
  return (await client.call('thread/start', { dynamicTools: DYNAMIC_TOOLS })).threadId
}

/** The audit records of one approval. */
async function recordsOf({ gateway }: Stage, approvalId: string, userId = 'alice') {
  const { records } = (await gateway.app.inject(`/api/audit?userId=${userId}&limit=100`)).json()
  return records.filter((record: { approvalId: string }) => record.approvalId === approvalId)
}

interface Raised {
  approval: { approvalId: string; turnId: string; [field: string]: unknown }
  prompt: string
  /** A file that appears when codex does what was asked; undefined for kinds without such an effect. */
  effect: string | undefined
}

let lastEffect = 0

/** Makes codex ask this kind of question, in a turn of its own. */
async function raise(stage: Stage, client: TestClient, kind: ApprovalCase, threadId: string): Promise<Raised> {
  const effect = join(stage.outside, `effect-${++lastEffect}.txt`)
  const prompt = stage.model.script(...kind.answers(effect))
  const { turnId } = await client.startTurn(prompt, threadId)
  if (kind.opensTerminal) {
    const terminal = await client.waitFor('approval/request', (payload) => payload.turnId === turnId)
    await client.call('approval/respond', { approvalId: terminal.payload.approvalId, decision: 'accept' })
  }
  const { payload } = await client.waitFor(
    'approval/request',
    (payload) => payload.turnId === turnId && payload.kind === kind.kind
  )
  return { approval: payload, prompt, effect: kind.hasEffect ? effect : undefined }
}

/** Makes codex ask every kind of question at once, each in a thread of its own: they wait for the clock together. */
async function raiseAll(stage: Stage, client: TestClient): Promise<[ApprovalCase, Raised][]> {
  const threadIds = await Promise.all(APPROVAL_CASES.map(() => startThread(client)))
  const raising = APPROVAL_CASES.map((kind, index) => raise(stage, client, kind, threadIds[index] ?? ''))
  const raised = await Promise.all(raising)
  return raised.map((one, index) => [APPROVAL_CASES[index] as ApprovalCase, one])
}

async function turnStatus(client: TestClient, turnId: string): Promise<string> {
  return (await client.waitForTurnEnd(turnId)).payload.params.turn.status
}

t.test('every kind of question: accepted, declined, cancelled', async (t) => {
  const stage = await startStage(t)
  const alice = await connect(t, stage)
  const watching = await connect(t, stage)
  const threadId = await startThread(alice)

  for (const kind of APPROVAL_CASES) {
    await t.test(kind.title, async (t) => {
      for (const decision of kind.decisions.filter((decision) => decision !== 'acceptForSession')) {
        const { approval, prompt, effect } = await raise(stage, alice, kind, threadId)
        t.match(approval, kind.request(effect ?? ''), `${decision}: what the clients are shown`)
        t.strictSame(approval.decisions, kind.decisions)

        const { approvalId, turnId } = approval
        const details = decision === 'accept' ? kind.details : {}
        const answer = await alice.call('approval/respond', { approvalId, decision, ...details })
        const outcome = decision === 'accept' ? 'accepted' : 'declined'
        const resolved = { approvalId, outcome, decision, by: { kind: 'user', id: 'alice' } }
        t.strictSame(answer, resolved)
        for (const client of [alice, watching]) {
          const { payload } = await client.waitFor('approval/resolved', (payload) => payload.approvalId === approvalId)
          t.strictSame(payload, resolved)
        }
        const ending = decision === 'cancel' && kind.cancelStops ? 'interrupted' : 'completed'
        t.equal(await turnStatus(alice, turnId), ending, `${decision}: the turn ends`)
        if (ending === 'completed')
          t.match(stage.model.heard(prompt), kind.heard[decision], `${decision}: the model is told`)
        t.notMatch(stage.model.heard(prompt), UNANSWERED)
        if (effect) t.equal(existsSync(effect), decision === 'accept', `${decision}: the effect`)
        const records = await recordsOf(stage, approvalId)
        t.match(records, [
          { kind: kind.kind, outcome, decision, turnId, actor: { kind: 'user', id: 'alice' }, ...kind.record }
        ])
        t.equal(records.length, 1, 'one record')
      }
    })
  }
  t.strictSame((await stage.gateway.app.inject('/api/approvals?userId=alice')).json(), { approvals: [] })
})

t.test('nobody answers: a reminder, then the default, and the model is told that it was no refusal', async (t) => {
  const timeoutMs = 1_500
  const stage = await startStage(t, { APPROVAL_TIMEOUT_MS: String(timeoutMs), APPROVAL_MAX_MS: '3000' })
  const alice = await connect(t, stage)
  const watching = await connect(t, stage)

  const expire = async (t: Test, kind: ApprovalCase, { approval, prompt, effect }: Raised) => {
    const { approvalId, turnId } = approval
    for (const client of [alice, watching]) {
      await client.waitFor('approval/resolved', (payload) => payload.approvalId === approvalId)
      const told = client.received.filter(
        ({ payload }) => payload?.approvalId === approvalId && payload.kind === undefined
      )
      t.match(told, [
        { type: 'approval/reminder', payload: { approvalId, expiresAt: approval.expiresAt } },
        { type: 'approval/resolved', payload: { outcome: 'expired', decision: 'decline', by: { kind: 'timeout' } } }
      ])
      t.equal(told.length, 2)
    }
    t.equal(await turnStatus(alice, turnId), 'completed')
    t.match(stage.model.heard(prompt), UNANSWERED)
    t.match(stage.model.heard(prompt), kind.heard.decline)
    if (effect) t.notOk(existsSync(effect), 'nothing was done')
    const records = await recordsOf(stage, approvalId)
    t.match(records, [{ kind: kind.kind, outcome: 'expired', decision: 'decline', actor: { kind: 'timeout' } }])
    t.equal(records.length, 1, 'one record')
    t.ok(records[0].latencyMs >= timeoutMs - 5, 'not before its time')
  }
  for (const [kind, raised] of await raiseAll(stage, alice)) await t.test(kind.title, (t) => expire(t, kind, raised))

  await t.test('an extension moves the end, never beyond the maximum', async (t) => {
    const { approval } = await raise(stage, alice, COMMAND, await startThread(alice))
    const { approvalId, turnId } = approval
    const latest = new Date(Date.parse(String(approval.expiresAt)) - timeoutMs + 3_000).toISOString()
    t.strictSame(await alice.call('approval/extend', { approvalId, ms: 60_000 }), { approvalId, expiresAt: latest })
    const isNew = (payload: { approvalId: string; expiresAt: string }) =>
      payload.approvalId === approvalId && payload.expiresAt === latest
    await watching.waitFor('approval/reminder', isNew)
    const url = `/api/approvals/${approvalId}/extend?userId=alice`
    const again = await stage.gateway.app.inject({ method: 'POST', url, payload: { ms: 60_000 } })
    t.match(again.json(), { approvalId, expiresAt: latest })

    await alice.waitFor('approval/resolved', (payload) => payload.approvalId === approvalId)
    t.ok(Date.now() >= Date.parse(latest) - 5, 'it waited for the new end')
    t.match(await recordsOf(stage, approvalId), [{ outcome: 'expired' }])
    t.equal(await turnStatus(alice, turnId), 'completed')
    const late = await stage.gateway.app.inject({ method: 'POST', url, payload: { ms: 60_000 } })
    t.equal(late.statusCode, 409)
  })
})

t.test('nobody answers where the policy says cancel: the turn stops', async (t) => {
  const file = join(await scratchDirectory(t), 'policy.json')
  await writeFile(file, JSON.stringify({ timeoutMs: 1_500, defaultAction: 'cancel' }))
  const stage = await startStage(t, { POLICY_FILE: file })
  const alice = await connect(t, stage)

  const expire = async (t: Test, kind: ApprovalCase, { approval, prompt, effect }: Raised) => {
    const { approvalId, turnId } = approval
    t.equal(await turnStatus(alice, turnId), 'interrupted')
    const { payload } = await alice.waitFor('approval/resolved', (payload) => payload.approvalId === approvalId)
    t.strictSame(payload, { approvalId, outcome: 'expired', decision: 'cancel', by: { kind: 'timeout' } })
    t.notMatch(stage.model.heard(prompt), UNANSWERED)
    if (effect) t.notOk(existsSync(effect), 'nothing was done')
    const records = await recordsOf(stage, approvalId)
    t.match(records, [{ kind: kind.kind, outcome: 'expired', decision: 'cancel', actor: { kind: 'timeout' } }])
    t.equal(records.length, 1, 'one record')
  }
  for (const [kind, raised] of await raiseAll(stage, alice)) await t.test(kind.title, (t) => expire(t, kind, raised))
})

t.test('more than one question, more than one answer', async (t) => {
  const logged: string[] = []
  const log = pino({ level: 'trace' }, { write: (line) => void logged.push(line) })
  const stage = await startStage(t, {}, log)
  const { gateway, model } = stage
  const alice = await connect(t, stage)
  const threadId = await startThread(alice)

  const respond = (approvalId: string, payload: object) =>
    gateway.app.inject({ method: 'POST', url: `/api/approvals/${approvalId}/respond?userId=alice`, payload })

  await t.test('two calls in one response wait together, and each gets its own answer, over REST', async (t) => {
    const effects = ['first', 'second'].map((name) => join(stage.outside, `${name}.txt`))
    const prompt = model.script(effects.map((effect) => escalate(`touch ${effect}`)))
    const { turnId } = await alice.startTurn(prompt, threadId)
    const asks = (effect = '') =>
      alice.waitFor('approval/request', ({ command }) => command?.includes(effect)).then(({ payload }) => payload)
    const [first, second] = [await asks(effects[0]), await asks(effects[1])]

    const { approvals } = (await gateway.app.inject('/api/approvals?userId=alice')).json()
    // codex runs the calls of one response side by side: either may ask first.
    const byItem = (list: { itemId: string }[]) => list.toSorted((a, b) => a.itemId.localeCompare(b.itemId))
    t.same(byItem(approvals), [first, second])
    const late = await connect(t, stage)
    t.same(byItem(late.ready.payload.pendingApprovals), [first, second], 'a client that comes later sees both')

    t.match((await respond(second.approvalId, { decision: 'accept' })).json(), { outcome: 'accepted' })
    t.match((await respond(first.approvalId, { decision: 'decline' })).json(), { outcome: 'declined' })
    t.equal(await turnStatus(alice, turnId), 'completed')
    t.strictSame(
      effects.map((effect) => existsSync(effect)),
      [false, true]
    )

    const again = await respond(second.approvalId, { decision: 'decline' })
    t.equal(again.statusCode, 409)
    t.match(again.json().error.details, { outcome: 'accepted', by: { kind: 'user', id: 'alice' } })
    t.equal((await respond('appr_unknown', { decision: 'accept' })).statusCode, 404)
  })

  await t.test('a decision that the kind does not offer is refused, and the question waits on', async (t) => {
    const kind = caseOf('userInput')
    const { approval, prompt } = await raise(stage, alice, kind, threadId)
    const refused = await respond(approval.approvalId, { decision: 'cancel' })
    t.equal(refused.statusCode, 400)
    t.same(
      alice.received.filter(
        ({ type, payload }) => type === 'approval/resolved' && payload.approvalId === approval.approvalId
      ),
      []
    )
    await respond(approval.approvalId, { decision: 'accept', ...kind.details })
    await alice.waitForTurnEnd(approval.turnId)
    t.match(model.heard(prompt), kind.heard.accept)
  })

  await t.test('a secret answer reaches the model, and no log, event or record', async (t) => {
    const secret = 'correct-horse-battery'
    const prompt = model.script([call('request_user_input', { questions: [question('pin', 'PIN?', true)] })])
    const { turnId } = await alice.startTurn(prompt, threadId)
    const { payload } = await alice.waitFor('approval/request', (payload) => payload.turnId === turnId)
    t.match(payload.questions, [{ id: 'pin', isSecret: true }])
    await alice.call('approval/respond', {
      approvalId: payload.approvalId,
      decision: 'accept',
      answers: { pin: { answers: [secret] } }
    })
    await alice.waitForTurnEnd(turnId)

    t.match(model.heard(prompt), secret)
    t.match(await recordsOf(stage, payload.approvalId), [{ kind: 'userInput', outcome: 'accepted' }])
    t.notMatch(JSON.stringify(alice.received), secret)
    t.ok(logged.length > 0)
    t.notMatch(logged.join(''), secret)
    const audit = join(gateway.dataDir, 'audit')
    const texts = await Promise.all((await readdir(audit)).map((name) => readFile(join(audit, name), 'latin1')))
    t.match(texts.join(''), payload.approvalId)
    t.notMatch(texts.join(''), secret)
  })

  await t.test('codex resolves what waits when its turn is interrupted or its thread archived', async (t) => {
    for (const ending of ['turn/interrupt', 'thread/archive']) {
      const ended = await startThread(alice)
      const { approval, effect } = await raise(stage, alice, COMMAND, ended)
      const { approvalId, turnId } = approval
      await alice.call(ending, { threadId: ended, ...(ending === 'turn/interrupt' ? { turnId } : {}) })
      const { payload } = await alice.waitFor('approval/resolved', (payload) => payload.approvalId === approvalId)
      t.strictSame(payload, { approvalId, outcome: 'superseded', decision: null, by: { kind: 'codex' } }, ending)

      const late = await respond(approvalId, { decision: 'accept' })
      t.equal(late.statusCode, 409)
      t.match(late.json().error, {
        code: 'CC_APPROVAL_RESOLVED',
        details: { outcome: 'superseded', by: { kind: 'codex' } }
      })
      const refused = await alice.request('approval/respond', { approvalId, decision: 'accept' })
      t.match(refused, { type: 'error', payload: { code: 'CC_APPROVAL_RESOLVED' } })
      const records = await recordsOf(stage, approvalId)
      t.match(records, [{ outcome: 'superseded', decision: null, actor: { kind: 'codex' } }])
      t.equal(records.length, 1)
      t.notOk(effect && existsSync(effect))
    }
  })

  await t.test(
    'accepted for the session: the same again is accepted by our rule, and on record, until revoked',
    async (t) => {
      const rules = async () => (await gateway.app.inject('/api/session-rules?userId=alice')).json().rules
      for (const kind of [COMMAND, caseOf('fileChange'), caseOf('mcpToolCall')]) {
        const effect = join(stage.outside, `session-${kind.kind}.txt`)
        const repeat = (inThread = threadId) => alice.startTurn(model.script(...kind.answers(effect)), inThread)
        const askedIn = (turnId: string) => alice.waitFor('approval/request', (payload) => payload.turnId === turnId)
        const decline = async ({ turnId }: { turnId: string }) => {
          const { payload } = await askedIn(turnId)
          await alice.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
          await alice.waitForTurnEnd(turnId)
        }

        const first = await repeat()
        const { approvalId } = (await askedIn(first.turnId)).payload
        const answer = await alice.call('approval/respond', { approvalId, decision: 'acceptForSession' })
        t.match(answer, { outcome: 'accepted', decision: 'acceptForSession' })
        await alice.waitForTurnEnd(first.turnId)
        const [rule] = await rules()
        t.match(rule, { threadId, kind: kind.kind, createdBy: 'alice' })
        if (kind.hasEffect) await rm(effect)

        const seen = alice.received.length
        const second = await repeat()
        await alice.waitForTurnEnd(second.turnId)
        const since = alice.received.slice(seen)
        t.same(
          since.filter(({ type }) => type === 'approval/request'),
          [],
          'nobody is asked'
        )
        const [resolved] = since.filter(({ type }) => type === 'approval/resolved')
        const by = { kind: 'rule', id: 'alice', rule: rule.ruleId }
        t.match(resolved?.payload, { outcome: 'accepted', decision: 'accept', by })
        t.match(await recordsOf(stage, resolved?.payload.approvalId), [
          { outcome: 'accepted', actor: by, turnId: second.turnId }
        ])
        if (kind.hasEffect) t.ok(existsSync(effect), 'and it is done')

        await decline(await repeat(await startThread(alice)))
        const url = `/api/session-rules/${rule.ruleId}?userId=alice`
        t.equal((await gateway.app.inject({ method: 'DELETE', url: url.replace('alice', 'mallory') })).statusCode, 404)
        t.equal((await gateway.app.inject({ method: 'DELETE', url })).statusCode, 200)
        t.same(await rules(), [])
        await decline(await repeat())
      }
    }
  )

  await t.test('a rule of the session covers exactly its command in exactly its directory', async (t) => {
    const ask = async (...args: Parameters<typeof escalate>) => {
      const { turnId } = await alice.startTurn(model.script([escalate(...args)]), threadId)
      const { payload } = await alice.waitFor('approval/request', (payload) => payload.turnId === turnId)
      return payload
    }
    const answer = async ({ approvalId, turnId }: { approvalId: string; turnId: string }, decision: Decision) => {
      await alice.call('approval/respond', { approvalId, decision })
      await alice.waitForTurnEnd(turnId)
    }
    const given = await ask('touch here.txt')
    await answer(given, 'acceptForSession')
    await mkdir(join(given.cwd, 'sub'))
    const others: Parameters<typeof escalate>[] = [
      ['touch here.txt', { workdir: join(given.cwd, 'sub') }],
      ['touch  here.txt'],
      ['touch here.txt there.txt'],
      ['touch here.txt', { login: false }]
    ]
    for (const other of others) await answer(await ask(...other), 'decline')
    t.notOk(existsSync(join(given.cwd, 'sub', 'here.txt')))
    t.notOk(existsSync(join(given.cwd, 'there.txt')))
  })
})

t.test('who may decide', async (t) => {
  const file = join(await scratchDirectory(t), 'policy.json')
  await writeFile(file, JSON.stringify({ approvers: [{ roles: ['approver'], for: ['alice'] }] }))
  const stage = await startStage(t, { POLICY_FILE: file, JWT_SECRET: TEST_SECRET })
  const { app, address } = stage.gateway
  const open = async (sub: string, roles: string[]) =>
    TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer(sub, { roles }) })
  const alice = await open('alice', ['user'])
  const bob = await open('bob', ['user'])
  const asAdmin = await bearer('root', { roles: ['admin'] })

  const respond = async (userId: string, approvalId: string, sub: string, roles: string[], door = 'respond') => {
    const payload = door === 'respond' ? { decision: 'accept' } : { ms: 1_000 }
    const url = `/api/approvals/${approvalId}/${door}?userId=${userId}`
    return app.inject({ method: 'POST', url, payload, headers: await bearer(sub, { roles }) })
  }

  await t.test('an approver decides for the users that the policy gives them, on record', async (t) => {
    const { approval, effect } = await raise(stage, alice, COMMAND, await startThread(alice))
    const list = await app.inject({
      url: '/api/approvals?userId=alice',
      headers: await bearer('carol', { roles: ['approver'] })
    })
    t.match(list.json().approvals, [{ approvalId: approval.approvalId }])
    const answer = await respond('alice', approval.approvalId, 'carol', ['approver'])
    t.match(answer.json(), { outcome: 'accepted', by: { kind: 'user', id: 'carol' } })
    await alice.waitFor('approval/resolved', ({ by }) => by.id === 'carol')
    await alice.waitForTurnEnd(approval.turnId)
    t.ok(effect && existsSync(effect))
    const { records } = (await app.inject({ url: '/api/audit?userId=alice&type=approval', headers: asAdmin })).json()
    t.match(records, [{ approvalId: approval.approvalId, userId: 'alice', actor: { kind: 'user', id: 'carol' } }])
  })

  await t.test('nobody else does', async (t) => {
    const viewer = await open('bob', ['viewer'])
    const { approval, effect } = await raise(stage, bob, COMMAND, await startThread(bob))
    const { approvalId } = approval
    for (const door of ['respond', 'extend']) {
      t.equal(
        (await respond('bob', approvalId, 'carol', ['approver'], door)).statusCode,
        403,
        `${door}: no grant for bob`
      )
      t.equal((await respond('bob', approvalId, 'mallory', ['user'], door)).statusCode, 403, `${door}: another user`)
      t.equal((await respond('bob', approvalId, 'bob', ['viewer'], door)).statusCode, 403, `${door}: a viewer`)
      t.equal(
        (await respond('alice', approvalId, 'carol', ['approver'], door)).statusCode,
        404,
        `${door}: by alice’s door`
      )
    }
    const overWs = await viewer.request('approval/respond', { approvalId, decision: 'accept' })
    t.match(overWs, { type: 'error', payload: { code: 'CC_FORBIDDEN' } })
    const extend = await viewer.request('approval/extend', { approvalId, ms: 1_000 })
    t.match(extend, { type: 'error', payload: { code: 'CC_FORBIDDEN' } })
    const another = await alice.request('approval/respond', { approvalId, decision: 'accept' })
    t.match(another, { type: 'error', payload: { code: 'CC_APPROVAL_NOT_FOUND' } })

    const answer = await bob.call('approval/respond', { approvalId, decision: 'decline' })
    t.match(answer, { outcome: 'declined' }, 'it was still waiting')
    await bob.waitForTurnEnd(approval.turnId)
    t.notOk(effect && existsSync(effect))
  })
})

t.test('strict mode: every command crosses the gateway, and what the policy proves is not asked', async (t) => {
  const stage = await startStage(t, { APPROVAL_MODE: 'strict' })
  const alice = await connect(t, stage)
  const threadId = await startThread(alice)

  const listing = stage.model.script([run('ls -la')])
  const { turnId } = await alice.startTurn(listing, threadId)
  t.equal(await turnStatus(alice, turnId), 'completed')
  t.match(stage.model.heard(listing), /Process exited with code 0/)
  t.same(
    alice.received.filter(({ type }) => type === 'approval/request'),
    []
  )
  const { payload } = await alice.waitFor('approval/resolved')
  t.match(payload, { outcome: 'accepted', by: { kind: 'policy' } })
  t.match(await recordsOf(stage, payload.approvalId), [
    { argv: ['ls', '-la'], outcome: 'accepted', actor: { kind: 'policy' } }
  ])

  for (const decision of ['accept', 'decline'] as const) {
    const script = stage.model.script([run(`python3 -c 'print(6 * 7)'`)])
    const turn = await alice.startTurn(script, threadId)
    const asked = await alice.waitFor('approval/request', (payload) => payload.turnId === turn.turnId)
    await alice.call('approval/respond', { approvalId: asked.payload.approvalId, decision })
    t.equal(await turnStatus(alice, turn.turnId), 'completed')
    t.match(stage.model.heard(script), decision === 'accept' ? /Output:\\n42/ : /rejected by user/)
  }
})

function caseOf(kind: ApprovalCase['kind']): ApprovalCase {
  return APPROVAL_CASES.find((candidate) => candidate.kind === kind) as ApprovalCase
}
