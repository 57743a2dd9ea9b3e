import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { AuditPage, AuditRecord } from '../schemas/audit.ts'
import type { AuditReport } from '../src/audit/verify.ts'
import { verifyAudit } from '../src/audit/verify.ts'
import { approval, readRecords } from './audit/fixtures.ts'
import { type Gateway, scratchDirectory, startGateway } from './support/gateway.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const AUDIT_KEY = 'a key of the tests'
const VARIABLES = { JWT_SECRET: TEST_SECRET, AUDIT_KEY }
const ADMIN = await bearer('root', { roles: ['admin'] })

t.test('everybody reads their own records, an admin all, by filter and page by page', async (t) => {
  const gateway = await startGateway(t, VARIABLES)
  const { app } = gateway
  const alice = readerOf(gateway, await bearer('alice'))
  const admin = readerOf(gateway, ADMIN)
  await Promise.all(
    Array.from({ length: 120 }, (_, n) =>
      app.audit.append(
        approval(`a${n}`, {
          userId: n % 3 === 0 ? 'bob' : 'alice',
          threadId: `thread-${n % 4}`,
          kind: n % 5 === 0 ? 'fileChange' : 'command',
          ...(n % 2 ? { outcome: 'accepted', decision: 'accept' } : { outcome: 'expired', decision: 'decline' })
        })
      )
    )
  )
  const all = await readRecords(join(gateway.dataDir, 'audit'))
  const newestFirst = (keep: (record: AuditRecord) => boolean) =>
    all
      .filter(keep)
      .map(({ seq }) => seq)
      .reverse()
  const isOf = (userId: string) => (record: AuditRecord) => record.userId === userId

  await t.test('their own, all of them, each once', async (t) => {
    const expected = newestFirst(isOf('alice'))
    t.equal(expected.length, 80)
    for (const limit of [1, 7, 80, 200]) t.strictSame(await alice.walk(`limit=${limit}`), expected, `${limit} a page`)
    t.equal((await alice.page('')).records.length, 50, 'the default page')
    t.strictSame(
      await admin.walk('limit=33'),
      newestFirst(() => true),
      'all, for an admin'
    )
  })

  await t.test('a record that comes during a walk neither moves nor repeats another', async (t) => {
    const expected = newestFirst(() => true)
    const seen: number[] = []
    let cursor = ''
    for (let page = await admin.page('limit=50'); ; page = await admin.page(`limit=50&cursor=${cursor}`)) {
      seen.push(...page.records.map(({ seq }) => seq))
      if (page.nextCursor === undefined) break
      cursor = page.nextCursor
      await app.audit.append(approval('late', { userId: 'carol' }))
    }
    t.strictSame(seen, expected)
  })

  await t.test('filters, one and all together', async (t) => {
    const filters: [string, (record: AuditRecord) => boolean][] = [
      ['threadId=thread-2', (record) => 'threadId' in record && record.threadId === 'thread-2'],
      ['outcome=expired', (record) => 'outcome' in record && record.outcome === 'expired'],
      ['kind=fileChange', (record) => 'kind' in record && record.kind === 'fileChange'],
      ['type=approval', ({ type }) => type === 'approval'],
      ['type=access', () => false],
      [`since=${all[0]?.at}`, () => true],
      [`until=${all[0]?.at}`, () => false]
    ]
    for (const [query, matches] of filters) {
      const keep = (record: AuditRecord) => isOf('alice')(record) && matches(record)
      t.strictSame(await alice.walk(`limit=9&${query}`), newestFirst(keep), query)
    }
    const some = filters.slice(0, 4)
    const keep = (record: AuditRecord) => isOf('alice')(record) && some.every(([, matches]) => matches(record))
    t.strictSame(await alice.walk(some.map(([query]) => query).join('&')), newestFirst(keep))
    t.strictSame(await admin.walk('userId=bob&type=approval'), newestFirst(isOf('bob')), 'an admin’s choice of a user')
  })

  await t.test('nobody else reads another’s, whatever the query says', async (t) => {
    for (const roles of [['viewer'], ['user'], ['approver']]) {
      const headers = await bearer('alice', { roles })
      for (const url of ['/api/audit?userId=bob', '/api/audit/export?userId=bob', '/api/audit/verify']) {
        const response = await app.inject({ url, headers })
        t.equal(response.statusCode, 403, `${roles} ${url}`)
        t.match(response.json(), { error: { code: 'CC_FORBIDDEN' } })
      }
    }
    const { body } = await app.inject({
      url: '/api/audit/export',
      headers: await bearer('alice', { roles: ['approver'] })
    })
    t.notMatch(body, '"userId":"bob"')
  })

  await t.test('a query that is not valid is refused', async (t) => {
    for (const query of [
      'limit=0',
      'limit=201',
      'limit=many',
      'cursor=!',
      'cursor=bm90IGEgY3Vyc29y',
      'since=yesterday',
      'outcome=fine',
      'kind=x',
      'user=bob'
    ]) {
      const response = await app.inject({ url: `/api/audit?${query}`, headers: ADMIN })
      t.equal(response.statusCode, 400, query)
      t.equal(response.json().error.code, 'CC_VALIDATION', query)
    }
  })
})

t.test('an admin’s whole export is a log that verifies; any other says that it cannot', async (t) => {
  const gateway = await startGateway(t, VARIABLES)
  const { app, dataDir } = gateway
  for (let n = 0; n < 30; n++) await app.audit.append(approval(`a${n}`, { userId: n % 2 ? 'alice' : 'bob' }))

  const whole = await app.inject({ url: '/api/audit/export', headers: ADMIN })
  t.match(whole.headers['content-type'], 'application/x-ndjson')
  t.equal(whole.body, await readFile(join(dataDir, 'audit', 'audit-000001.jsonl'), 'utf8'))
  const report = await verifyText(t, whole.body)
  t.match(report, { ok: true, records: 30, head: app.audit.head, findings: [] })

  const exports = [
    { url: '/api/audit/export', headers: await bearer('alice'), filter: { userId: 'alice' } },
    { url: '/api/audit/export?outcome=accepted', headers: ADMIN, filter: { outcome: 'accepted' } },
    {
      url: '/api/audit/export?userId=alice&type=approval',
      headers: ADMIN,
      filter: { userId: 'alice', type: 'approval' }
    }
  ]
  for (const { url, headers, filter } of exports) {
    const { body } = await app.inject({ url, headers })
    const [statement, ...records] = body
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    t.match(statement, { type: 'export', verifiable: false, statement: /cannot|neither/, filter }, url)
    t.equal(records.length, 'userId' in filter ? 15 : 30)
    if ('userId' in filter) t.ok(records.every(({ userId, type }) => userId === 'alice' && type === 'approval'))
    t.strictSame(
      records.map(({ seq }) => seq),
      records.map(({ seq }) => seq).sort((left, right) => left - right),
      'oldest first'
    )
    t.notOk((await verifyText(t, body)).ok, 'nor does the verifier take it for a log')
  }
})

t.test('a byte that is flipped under a running gateway is found and named', async (t) => {
  const gateway = await startGateway(t, VARIABLES)
  const { app, dataDir } = gateway
  for (let n = 0; n < 20; n++) await app.audit.append(approval(`a${n}`))
  const verify = async () => (await app.inject({ url: '/api/audit/verify', headers: ADMIN })).json() as AuditReport
  const sound = await verify()
  t.match(sound, { ok: true, records: 20, findings: [], head: app.audit.head })

  const path = join(dataDir, 'audit', 'audit-000001.jsonl')
  const at = (await readFile(path, 'utf8')).indexOf('"approvalId":"a11"') + '"approvalId":"a'.length
  await overwrite(path, at, '7')
  const { ok, records, findings } = await verify()
  t.strictSame({ ok, records }, { ok: false, records: 19 })
  t.match(findings, [{ kind: 'changed', file: 'audit-000001.jsonl', line: 12, seq: 12 }])
  t.equal(findings.length, 1)
  const { seq } = await app.audit.append(approval('after'))
  t.equal(seq, 21, 'the log goes on')
  await overwrite(path, at, '1')
  t.match(await verify(), { ok: true, records: 21 })
})

t.test('secrets in a command are not on record, but what it was can be proved', async (t) => {
  const { app, address, dataDir } = await startGateway(t)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const secret = 'sk-proj-4f9a2b7c6d1e8053'
  const { turnId } = await client.startTurn(
    `escalate: curl -H "Authorization: Bearer ${secret}" --data password=hunter2-and-more http://127.0.0.1:1/`
  )
  const { payload } = await client.waitFor('approval/request')
  t.match(payload.command, secret, 'who decides sees all of it')
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'decline' })
  await client.waitForTurnEnd(turnId)

  const { records } = (await app.inject('/api/audit?userId=alice')).json() as AuditPage
  const [record] = records as [Extract<AuditRecord, { type: 'approval' }>]
  t.match(record.command, /curl -H .*Authorization: \[REDACTED\].*127\.0\.0\.1/)
  t.equal(record.commandSha256, createHash('sha256').update(payload.command).digest('hex'))
  for (const text of [
    JSON.stringify(records),
    (await app.inject('/api/audit/export?userId=alice')).body,
    await readFile(join(dataDir, 'audit', 'audit-000001.jsonl'), 'utf8')
  ]) {
    t.notMatch(text, secret)
    t.notMatch(text, 'hunter2')
  }
})

t.test('who acts in another user’s session is on record before anything happens there', async (t) => {
  const { app, address, dataDir } = await startGateway(t, VARIABLES)
  const alice = await TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer('alice') })
  const { threadId } = await alice.startTurn('escalate: touch x')
  const { payload } = await alice.waitFor('approval/request')
  const approvalId = payload.approvalId as string
  const respond = `/api/approvals/${approvalId}/respond?userId=alice`
  const accept = { method: 'POST', url: respond, headers: ADMIN, payload: { decision: 'accept' } } as const
  const accesses = async () => {
    const { records } = (await app.inject({ url: '/api/audit?type=access', headers: ADMIN })).json() as AuditPage
    return records.map((record) => [record.userId, record.actor, 'action' in record && record.action])
  }
  const root = { kind: 'user', id: 'root', role: 'admin' }
  t.strictSame(await accesses(), [], 'her own steps are no access')

  await TestClient.connect(t, `ws://${address}/ws?userId=alice`, { headers: ADMIN })
  t.strictSame(await accesses(), [['alice', root, 'GET /ws']])
  await app.inject({ url: `/api/threads/${threadId}?userId=alice`, headers: ADMIN })
  t.strictSame((await accesses())[0], ['alice', root, 'GET /api/threads/:threadId'])

  const audit = join(dataDir, 'audit')
  await rename(audit, `${audit}.away`)
  await mkdir(audit)
  const refused = [
    accept,
    { url: `/api/threads/${threadId}?userId=alice`, headers: ADMIN } as const,
    { method: 'POST', url: '/api/threads', headers: ADMIN, payload: { userId: 'alice' } } as const
  ]
  for (const request of refused) {
    const response = await app.inject(request)
    t.equal(response.statusCode, 503, request.url)
    t.match(response.json(), { error: { code: 'CC_AUDIT_UNAVAILABLE' } })
  }
  await t.rejects(TestClient.connect(t, `ws://${address}/ws?userId=alice`, { headers: ADMIN }), { message: 'HTTP 503' })
  const threads = await app.inject({ url: '/api/threads', headers: await bearer('alice') })
  t.equal(threads.json().data.length, 1, 'no thread was started, and she reads hers all the same')
  t.notOk(alice.received.some(({ type }) => type === 'approval/resolved'))
  await rm(audit, { recursive: true })
  await rename(`${audit}.away`, audit)

  const deadlineMs = Date.now() + 10_000
  let answer = await app.inject(accept)
  while (answer.statusCode === 503 && Date.now() < deadlineMs) answer = await app.inject(accept)
  t.equal(answer.statusCode, 200)
  const records = await readRecords(audit)
  const access = records.findIndex((record) => 'action' in record && record.action.startsWith('POST /api/approvals'))
  const decision = records.findIndex((record) => 'approvalId' in record && record.approvalId === approvalId)
  t.ok(access !== -1 && access < decision, 'the access stands before the decision')
  t.match(records[decision], { actor: { kind: 'user', id: 'root' } })
})

/** The audit routes as one caller uses them. */
function readerOf({ app }: Gateway, headers: Record<string, string>) {
  const page = async (query: string) => (await app.inject({ url: `/api/audit?${query}`, headers })).json() as AuditPage
  return {
    page,
    /** The seqs of all pages. */
    walk: async (query: string): Promise<number[]> => {
      const seqs: number[] = []
      let cursor = ''
      do {
        const { records, nextCursor } = await page(`${query}${cursor === '' ? '' : `&cursor=${cursor}`}`)
        seqs.push(...records.map(({ seq }) => seq))
        cursor = nextCursor ?? ''
      } while (cursor !== '')
      return seqs
    }
  }
}

/** What the verifier says of a text that somebody saved as the only file of a log. */
async function verifyText(t: Parameters<typeof scratchDirectory>[0], text: string): Promise<AuditReport> {
  const directory = await scratchDirectory(t)
  await writeFile(join(directory, 'audit-000001.jsonl'), text)
  return verifyAudit(directory)
}

async function overwrite(path: string, position: number, text: string): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(text, position)
  await file.close()
}
