import { watch } from 'node:fs'
import { access, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import type { Approval } from '../schemas/approvals.ts'
import type { AuditEntry, AuditRecord } from '../schemas/audit.ts'
import { ApprovalLedger, type LedgerHandlers } from '../src/approvals/ledger.ts'
import type { PolicyVerdict, Settlement } from '../src/approvals/ledger-entry.ts'
import { type RuleStore, SessionRules } from '../src/approvals/session-rules.ts'
import { verifyAudit } from '../src/audit/verify.ts'
import { readServerRequest } from '../src/codex/server-requests.ts'
import { type ApprovalRecord, readRecords, readSegments } from './audit/fixtures.ts'
import { scratchDirectory, startGateway, type Teardown } from './support/gateway.ts'
import { startGatewayProcess } from './support/gateway-process.ts'
import { eventually, untilGone } from './support/processes.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const RIVALS = 100
const ROUNDS = process.env.FULL ? 200 : 10
// A round is one start of the gateway: seconds on a busy machine.
const KILLS_TIMEOUT_MS = ROUNDS * 30_000
t.setTimeout(KILLS_TIMEOUT_MS + 120_000)
const AUDIT_KEY = 'a key of the tests'

t.test(`${RIVALS} clients answer one approval at once: one wins, the others hear who did, one record`, async (t) => {
  const { app, address } = await startGateway(t)
  const clients = await Promise.all(
    Array.from({ length: RIVALS }, () => TestClient.connect(t, `ws://${address}/ws?userId=alice`))
  )
  const [first] = clients as [TestClient]
  const { turnId } = await first.startTurn('escalate: touch raced.txt')
  const { payload: approval } = await first.waitFor('approval/request')
  const { approvalId } = approval

  const answers = await Promise.all(
    clients.map((client, n) =>
      client.request('approval/respond', { approvalId, decision: n % 2 ? 'accept' : 'decline' })
    )
  )
  const [winner, ...others] = answers.filter(({ type }) => type === 'response')
  t.match(winner?.payload, { approvalId, by: { kind: 'user', id: 'alice' } })
  t.equal(others.length, 0)
  const { outcome, by } = winner?.payload ?? {}
  const losers = answers.filter(({ type }) => type === 'error')
  t.equal(losers.length, RIVALS - 1)
  for (const { payload } of losers) {
    t.strictSame([payload.code, payload.details], ['CC_APPROVAL_RESOLVED', { outcome, by }])
  }

  const resolutions = await Promise.all(clients.map((client) => client.waitFor('approval/resolved')))
  for (const { payload } of resolutions) t.strictSame(payload, winner?.payload)
  t.strictSame(
    clients.filter(({ received }) => received.filter(({ type }) => type === 'approval/resolved').length !== 1),
    []
  )
  await first.waitForTurnEnd(turnId)
  t.equal(await exists(join(approval.cwd, 'raced.txt')), outcome === 'accepted')
  const { records } = (await app.inject('/api/audit?userId=alice&type=approval')).json()
  t.match(records, [{ approvalId, outcome }])
  t.equal(records.length, 1)
})

t.test(`${RIVALS} people answer one approval by REST at once: one gets 200, the others 409 and a name`, async (t) => {
  const { app, address } = await startGateway(t, { JWT_SECRET: TEST_SECRET })
  const alice = await TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer('alice') })
  await alice.startTurn('escalate: touch raced.txt')
  const { payload: approval } = await alice.waitFor('approval/request')
  const { approvalId } = approval

  const people = Array.from({ length: RIVALS }, (_, n) => `admin-${n}`)
  const headers = await Promise.all(people.map((name) => bearer(name, { roles: ['admin'] })))
  const responses = await Promise.all(
    headers.map(async (header) => {
      const response = await fetch(`http://${address}/api/approvals/${approvalId}/respond?userId=alice`, {
        method: 'POST',
        headers: { ...header, 'content-type': 'application/json' },
        body: JSON.stringify({ decision: 'accept' })
      })
      return { status: response.status, body: (await response.json()) as { by?: unknown; error?: object } }
    })
  )
  const won = responses.flatMap(({ status, body }, n) => (status === 200 ? { body, id: people[n] } : []))
  t.match(won, [{ body: { approvalId, outcome: 'accepted' } }])
  t.equal(won.length, 1)
  const by = { kind: 'user', id: won[0]?.id }
  t.strictSame(won[0]?.body.by, by)
  const lost = responses.filter(({ status }) => status === 409)
  t.equal(lost.length, RIVALS - 1)
  for (const { body } of lost) {
    t.match(body.error, { code: 'CC_APPROVAL_RESOLVED' })
    t.strictSame((body.error as { details?: unknown }).details, { outcome: 'accepted', by })
  }

  const audit = `/api/audit?userId=alice&type=approval`
  const { records } = (await app.inject({ url: audit, headers: headers[0] ?? {} })).json()
  t.match(records, [{ approvalId, outcome: 'accepted', actor: by }])
  t.equal(records.length, 1)
})

/** Where the gateway is killed on a decision's way to codex; see support/die-at.mjs. */
const MOMENTS = {
  durable: { isRecorded: true },
  written: { isRecorded: true },
  answered: { isRecorded: true, isTold: true },
  'half written': { isRecorded: false },
  'before the write': { isRecorded: false },
  /** As soon as the test sees the log grow: a moment nobody chose. */
  'seen from outside': { isTold: true }
} as const satisfies Record<string, { isRecorded?: boolean; isTold?: boolean }>
type Moment = keyof typeof MOMENTS

t.test(
  `killed ${ROUNDS} times between record and answer: the chain holds, nothing takes effect unrecorded`,
  { timeout: KILLS_TIMEOUT_MS },
  async (t) => {
    const dataDir = await scratchDirectory(t)
    const auditDir = join(dataDir, 'audit')
    const names = Object.keys(MOMENTS) as Moment[]
    for (let round = 0; round < ROUNDS; round++) {
      const moment = names[round % names.length] as Moment
      const { approvalId, cwd, file } = await killOnTheWay(t, dataDir, moment, round)
      await untilGone(dataDir, 5_000)

      const { findings } = await verify(auditDir)
      t.match(
        findings.map(({ kind }) => kind),
        moment === 'half written' ? ['torn-tail'] : moment === 'seen from outside' ? /^(torn-tail)?$/ : [],
        `round ${round}, ${moment}`
      )
      const found = (await recordsOf(auditDir)).filter((record) => record.approvalId === approvalId)
      t.ok(found.length <= 1, `round ${round}, ${moment}: one record at most`)
      const [record] = found
      if (record) t.match(record, { outcome: 'accepted', decision: 'accept', actor: { kind: 'user', id: 'alice' } })
      const { isRecorded, isTold } = MOMENTS[moment] as { isRecorded?: boolean; isTold?: boolean }
      if (isRecorded !== undefined) t.equal(record !== undefined, isRecorded, `round ${round}, ${moment}: record`)
      const hasEffect = await exists(join(cwd, file))
      t.ok(isTold ? !hasEffect || record : !hasEffect, `round ${round}, ${moment}: effect ${hasEffect}`)
    }

    const { close } = await startGateway(t, { DATA_DIR: dataDir, AUDIT_KEY })
    await close()
    const { ok, findings } = await verify(auditDir)
    t.ok(ok, JSON.stringify(findings))
    const ids = (await recordsOf(auditDir)).flatMap(({ approvalId }) => approvalId ?? [])
    t.equal(new Set(ids).size, ids.length, 'no approval is on record twice')
  }
)

t.test('while the audit log cannot be written no decision takes effect, and it does once it can', async (t) => {
  const { app, address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn('escalate: touch late.txt')
  const { payload: approval } = await client.waitFor('approval/request')
  const { approvalId } = approval

  const giveBack = await takeAuditAway(dataDir)
  for (const decision of ['accept', 'acceptForSession', 'decline']) {
    const answer = await client.request('approval/respond', { approvalId, decision })
    t.match(answer, { type: 'error', payload: { code: 'CC_AUDIT_UNAVAILABLE' } })
  }
  const rest = await app.inject({
    method: 'POST',
    url: `/api/approvals/${approvalId}/respond?userId=alice`,
    payload: { decision: 'accept' }
  })
  t.equal(rest.statusCode, 503)
  t.equal(rest.json().error.code, 'CC_AUDIT_UNAVAILABLE')
  t.match((await app.inject('/api/approvals?userId=alice')).json(), { approvals: [{ approvalId }] })
  t.strictSame((await app.inject('/api/session-rules?userId=alice')).json(), { rules: [] })
  // A round trip through codex: had it heard a decision, its end of the item would have come before.
  await client.call('thread/read', { threadId, includeTurns: false })
  t.notOk(client.received.some(({ type }) => type === 'approval/resolved'))
  t.strictSame(endedCommands(client), [])
  t.notOk(await exists(join(approval.cwd, 'late.txt')))

  await giveBack()
  const answer = await eventually('the log is written again', 10_000, async () => {
    const { type, payload } = await client.request('approval/respond', { approvalId, decision: 'accept' })
    return type === 'response' && payload
  })
  t.match(answer, { outcome: 'accepted', by: { kind: 'user', id: 'alice' } })
  await client.waitForTurnEnd(turnId)
  t.ok(await exists(join(approval.cwd, 'late.txt')))
  const { records } = (await app.inject('/api/audit?userId=alice')).json()
  t.match(records, [{ approvalId, outcome: 'accepted' }])
  t.equal(records.length, 1)
  t.match((await readRecords(join(dataDir, 'audit')))[0], { type: 'note', event: 'writes-refused' })
  t.strictSame((await verifyAudit(join(dataDir, 'audit'))).findings, [])
})

t.test('a decision that cannot be recorded, with nobody there to try again, stops the process', async (t) => {
  const cases = [
    { name: 'an expired approval', prompt: 'escalate: touch never.txt', isAsked: true },
    { name: 'a command that the policy accepts', prompt: 'escalate: ls -la', isAsked: false }
  ]
  for (const { name, prompt, isAsked } of cases) {
    await t.test(name, async (t) => {
      const { app, address, dataDir } = await startGateway(t, { APPROVAL_TIMEOUT_MS: '1500' })
      const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
      const { threadId } = await client.call('thread/start', {})
      let giveBack = isAsked ? undefined : await takeAuditAway(dataDir)
      await client.startTurn(prompt, threadId)
      if (isAsked) {
        await client.waitFor('approval/request')
        giveBack = await takeAuditAway(dataDir)
      }

      const { payload: resolved } = await client.waitFor('approval/resolved')
      t.match(resolved, { outcome: 'orphaned', decision: null, by: { kind: 'codex' } })
      const { payload: state } = await client.waitFor('session/state', ({ state }) => state === 'cold')
      t.match(state.reason, /audit log cannot be written/)
      await untilGone(dataDir, 5_000)
      t.strictSame(endedCommands(client), [], 'no command ran')
      t.strictSame((await app.inject('/api/approvals?userId=alice')).json(), { approvals: [] })

      await giveBack?.()
      await eventually('the log is written again', 10_000, () => app.audit.append(NOTE).catch(() => undefined))
      const { turnId } = await client.startTurn('escalate: ls -la', threadId)
      await client.waitForTurnEnd(turnId)
      t.match(endedCommands(client), ['completed'], 'a later turn works')
    })
  }
})

t.test('who answers while another answer is being recorded hears how that ended, not how it began', async (t) => {
  const { ledger, approvalId, told, records } = await openLedger(t)
  const first = ledger.respond(approvalId, { decision: 'accept' }, { kind: 'user', id: 'anna' })
  const second = ledger.respond(approvalId, { decision: 'decline' }, { kind: 'user', id: 'ben' })
  const third = ledger.respond(approvalId, { decision: 'accept' }, { kind: 'user', id: 'cleo' })
  t.equal(records.length, 1)
  records[0]?.fail(new Error('the disk is full'))
  await t.rejects(first, { message: 'the disk is full' })
  await eventually('the second takes its turn', 1_000, () => records[1])
  records[1]?.succeed()
  t.match(await second, { outcome: 'declined', by: { kind: 'user', id: 'ben' } })
  await t.rejects(third, {
    code: 'CC_APPROVAL_RESOLVED',
    details: { outcome: 'declined', by: { kind: 'user', id: 'ben' } }
  })
  t.strictSame(told, [{ decision: 'decline' }])
  t.equal(records.length, 2)
})

t.test('an approval whose time runs out while an answer is being recorded still ends when that fails', async (t) => {
  const { ledger, approvalId, expiresAt, told, records } = await openLedger(t, { timeoutMs: 20 })
  const answer = ledger.respond(approvalId, { decision: 'accept' }, { kind: 'user', id: 'anna' })
  await eventually('the time is over', 1_000, () => Date.now() > Date.parse(expiresAt) + 20)
  t.equal(records.length, 1)
  records[0]?.fail(new Error('the disk is full'))
  await t.rejects(answer, { message: 'the disk is full' })
  await eventually('it expires', 1_000, () => records[1])
  t.match(records[1]?.settlement, { outcome: 'expired', decision: 'decline' })
  records[1]?.succeed()
  await eventually('codex hears', 1_000, () => told.length)
  t.strictSame(told, [{ decision: 'decline' }])
})

const NOTE: AuditEntry = { type: 'note', actor: { kind: 'system' }, event: 'test', message: 'is the disk back?' }

/** Has the gateway killed while a command is being accepted; the next round is its restart. */
async function killOnTheWay(t: Teardown, dataDir: string, moment: Moment, round: number) {
  const preload = `--import=${pathToFileURL('test/support/die-at.mjs').href}`
  const { child, address, exited } = await startGatewayProcess(t, {
    DATA_DIR: dataDir,
    AUDIT_KEY,
    NODE_OPTIONS: preload,
    DIE_AT: moment
  })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const file = `round-${round}.txt`
  await client.startTurn(`escalate: touch ${file}`)
  const { payload } = await client.waitFor('approval/request')
  if (moment === 'seen from outside') {
    const watcher = watch(join(dataDir, 'audit'), (_event, name) => {
      if (/^audit-.*\.jsonl$/.test(name ?? '')) child.kill('SIGKILL')
    })
    void exited.then(() => watcher.close())
  }
  client.send({ type: 'approval/respond', payload: { approvalId: payload.approvalId, decision: 'accept' } })
  const { signal } = await exited
  if (signal !== 'SIGKILL') throw new Error(`${moment}: the gateway ended with ${signal}`)
  client.socket.terminate()
  return { approvalId: payload.approvalId as string, cwd: payload.cwd as string, file }
}

function verify(auditDir: string) {
  return verifyAudit(auditDir, { key: AUDIT_KEY })
}

/** The records of approvals; what was written by half is none. */
async function recordsOf(auditDir: string): Promise<ApprovalRecord[]> {
  const lines = (await readSegments(auditDir)).flat()
  const whole = lines.filter((line) => line.endsWith('}')).map((line) => JSON.parse(line) as AuditRecord)
  return whole.filter((record): record is ApprovalRecord => record.type === 'approval')
}

/** Puts an empty directory in the place of the audit log; the result undoes it. */
async function takeAuditAway(dataDir: string): Promise<() => Promise<void>> {
  const directory = join(dataDir, 'audit')
  await rename(directory, `${directory}.away`)
  await mkdir(directory)
  return async () => {
    await rm(directory, { recursive: true })
    await rename(`${directory}.away`, directory)
  }
}

/** How the commands that codex has ended ended. */
function endedCommands({ received }: TestClient): string[] {
  return received.flatMap(({ payload }) => {
    const item = payload?.method === 'item/completed' ? payload.params.item : undefined
    return item?.type === 'commandExecution' ? [item.status] : []
  })
}

interface PendingRecord {
  settlement: Settlement
  succeed(): void
  fail(error: Error): void
}

const noStore: RuleStore = { putRule: async () => {}, deleteRule: async () => {}, dropRule: () => {} }

/** A ledger with one approval that waits; records end when the test says so. */
async function openLedger(t: Teardown, { timeoutMs = 60_000 } = {}) {
  const records: PendingRecord[] = []
  const told: unknown[] = []
  const policy: PolicyVerdict = {
    verdict: 'ask',
    rule: 'test',
    reason: 'a test',
    policyVersion: 'v1',
    times: { timeoutMs, maxMs: 60_000, defaultAction: 'decline' }
  }
  const handlers: LedgerHandlers = {
    decide: async () => policy,
    record: (settlement) =>
      new Promise((succeed, fail) => {
        records.push({ settlement, succeed, fail })
      }),
    emit: () => {},
    keep: async () => {},
    forget: () => {},
    onExpired: async () => {},
    onUnrecordable: (error) => {
      throw error
    }
  }
  const ledger = new ApprovalLedger(handlers, new SessionRules(noStore))
  const params = { kind: 'command', threadId: 't', turnId: 'u', itemId: 'i', command: 'rm x', cwd: '/' }
  const request = readServerRequest('item/commandExecution/requestApproval', params, () => undefined)
  if (request.type !== 'question') throw new Error('it is a question')
  await ledger.open({ id: 1, respond: (result) => told.push(result) }, request.question)
  t.teardown(async () => {
    const ended = ledger.settleAll({ kind: 'shutdown' })
    for (const record of records) record.succeed()
    await ended
  })
  const [{ approvalId, expiresAt }] = ledger.pending() as [Approval]
  return { ledger, approvalId, expiresAt, told, records }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false
  )
}
