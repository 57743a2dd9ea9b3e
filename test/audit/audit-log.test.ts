import { createHash } from 'node:crypto'
import { copyFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Check } from 'typebox/value'
import { type AuditQuery, AuditRecordSchema } from '../../schemas/audit.ts'
import { AuditLog } from '../../src/audit/audit-log.ts'
import type { Head } from '../../src/audit/record.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { type ApprovalRecord, approval, fill, KEY, readRecords, readSegments, startWriter } from './fixtures.ts'
import { openLog } from './open-log.ts'

async function collect(lines: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = []
  for await (const line of lines) all.push(line)
  return all
}

t.test(
  'appends in flight share writes, keep the order of the calls and resolve with what is on the disk',
  async (t) => {
    const { dir, log } = await openLog(t)
    const records = await fill(log, 500)
    t.same(
      records.map((record) => record.seq),
      Array.from({ length: 500 }, (_, n) => n + 1)
    )
    t.same(
      records.map((record) => (record as ApprovalRecord).approvalId),
      Array.from({ length: 500 }, (_, n) => `a${n}`)
    )
    t.same(await readRecords(dir), records)
    t.ok(records.every((record) => Check(AuditRecordSchema, record)))
    t.match(log.head, { seq: 500, hash: records.at(-1)?.hash })
    t.equal(new Set(records.map((record) => record.at)).size < 50, true, 'one time per shared write')
  }
)

t.test('the log is for its owner only, and continues after a restart', async (t) => {
  const dir = join(t.testdir(), 'audit')
  for (let n = 0; n < 3; n++) {
    const log = await AuditLog.open(dir, { key: KEY })
    await fill(log, 2)
    await log.close()
    await log.close()
    await t.rejects(log.append(approval('late')), { code: 'CC_AUDIT_UNAVAILABLE' })
  }
  t.equal((await stat(dir)).mode & 0o777, 0o700)
  t.equal((await stat(join(dir, 'audit-000001.jsonl'))).mode & 0o777, 0o600)
  t.match(await verifyAudit(dir, { key: KEY }), { ok: true, records: 6 })
})

t.test('a full segment is followed by the next, one chain through all', async (t) => {
  const { dir, log } = await openLog(t, { segmentBytes: 2_000 })
  for (let n = 0; n < 12; n++) await log.append(approval(`a${n}`))
  t.ok((await readSegments(dir)).length > 3)
  t.match(await verifyAudit(dir), { ok: true, records: 12 })
  const ids = (await log.query({ limit: 12 })).records.map((record) => (record as ApprovalRecord).approvalId)
  t.same(
    ids,
    Array.from({ length: 12 }, (_, n) => `a${11 - n}`)
  )
})

t.test('secrets are redacted, texts clipped and the raw command hashed before anything is written', async (t) => {
  const { dir, log } = await openLog(t)
  const command = 'curl -H "Authorization: Bearer sk-proj-abcdefgh12345678" https://u:hunter2@example.com'
  const record = (await log.append(
    approval('s', {
      command,
      argv: ['mysql', '--password', 'hunter2', 'DB_PASSWORD=hunter2'],
      cwd: '/w/sk-abcdefghijkl',
      verdict: { verdict: 'ask', rule: 'r', reason: 'token=hunter2 found' },
      subject: 'hunter: password=hunter2',
      paths: ['/w/ok', ...Array.from({ length: 2_000 }, (_, n) => `/w/${n}`)]
    })
  )) as ApprovalRecord
  const [line = ''] = (await readSegments(dir)).flat()
  t.notMatch(line, /hunter2|abcdefgh/)
  t.equal(record.commandSha256, createHash('sha256').update(command).digest('hex'))
  t.same(record.argv, ['mysql', '--password', '[REDACTED]', 'DB_PASSWORD=[REDACTED]'])
  t.same(record.clipped, ['paths'])
  t.equal(record.paths?.length, 1_000)
  t.match(record.pathsSha256, /^[0-9a-f]{64}$/)
  await log.append({
    type: 'access',
    userId: 'bob',
    actor: { kind: 'user', id: 'root', role: 'admin' },
    action: 'GET /api/audit',
    message: 'ghp_0123456789abcdef'
  })
  t.notMatch((await readSegments(dir)).flat().join(), /ghp_0/)
  t.equal((await verifyAudit(dir)).ok, true)
})

t.test('an entry with an unknown field, or without a needed one, is refused and the log goes on', async (t) => {
  const { log } = await openLog(t)
  await t.rejects(log.append({ ...approval('x'), answers: { pin: '1234' } } as never), {
    code: 'CC_AUDIT_ENTRY_INVALID'
  })
  await t.rejects(log.append({ ...approval('x'), userId: '../x' }), { code: 'CC_AUDIT_ENTRY_INVALID' })
  t.equal((await log.append(approval('y'))).seq, 1)
})

t.test('more waiting appends than allowed are refused, not kept in memory', async (t) => {
  const { log } = await openLog(t, { maxWaiting: 10 })
  const results = await Promise.allSettled(Array.from({ length: 30 }, (_, n) => log.append(approval(`a${n}`))))
  t.equal(results.filter((result) => result.status === 'fulfilled').length, 10)
})

t.test('every filter, alone and together, pages through exactly its records, newest first', async (t) => {
  let clock = Date.parse('2026-01-01T00:00:00.000Z')
  const { log } = await openLog(t, { now: () => clock })
  const users = ['alice', 'bob', 'a:b|c']
  const outcomes = ['accepted', 'declined', 'expired'] as const
  for (let n = 0; n < 90; n++) {
    // A clock that is set back must not hide records.
    clock += n === 40 ? -5_000 : 1_000
    const kind = n % 10 === 0 ? 'fileChange' : 'command'
    await log.append(
      approval(`a${n}`, {
        userId: users[n % 3] as string,
        threadId: `t${n % 4}`,
        kind,
        outcome: outcomes[(n % 5) % 3] as 'accepted'
      })
    )
  }
  await log.append({ type: 'note', actor: { kind: 'system' }, event: 'hello', message: 'x' })
  const all = (await collect(log.exportNdjson())).map((line) => JSON.parse(line))
  const since = '2026-01-01T00:00:20.000Z'
  const until = '2026-01-01T00:00:50.000Z'
  const filters: AuditQuery[] = [
    {},
    { userId: 'bob' },
    { userId: 'a:b|c', outcome: 'expired' },
    { threadId: 't1' },
    { threadId: 't1', userId: 'alice' },
    { outcome: 'declined' },
    { kind: 'fileChange' },
    { kind: 'command', threadId: 't2' },
    { type: 'note' },
    { type: 'access' },
    { type: 'approval', since },
    { since, until },
    { userId: 'alice', since, until },
    { userId: 'nobody' }
  ]
  for (const filter of filters) {
    const { since: from, until: to, ...equal } = filter
    const expected = all
      .filter((record) => Object.entries(equal).every(([name, value]) => record[name] === value))
      .filter((record) => (!from || record.at >= from) && (!to || record.at < to))
      .sort((a, b) => (a.at === b.at ? b.seq - a.seq : a.at < b.at ? 1 : -1))
    for (const limit of [7, 200]) {
      const got: unknown[] = []
      let cursor: string | undefined
      do {
        const page = await log.query({ ...filter, limit, ...(cursor && { cursor }) })
        t.ok(page.records.length <= limit)
        got.push(...page.records)
        cursor = page.nextCursor
      } while (cursor)
      t.same(got, expected, `${JSON.stringify(filter)} by ${limit}`)
    }
    const exported = (await collect(log.exportNdjson(filter))).map((line) => JSON.parse(line))
    if (Object.keys(filter).length === 0) continue
    t.match(exported[0], { type: 'export', verifiable: false })
    t.same(exported.slice(1).reverse(), expected, `export ${JSON.stringify(filter)}`)
  }
  await t.rejects(log.query({ cursor: 'bm9wZQ' }), { code: 'CC_VALIDATION' })
  await t.rejects(log.query({ since: 'yesterday' }), { code: 'CC_VALIDATION' })
})

t.test('a filter that matches nothing among many records costs a bounded page and a cursor that goes on', async (t) => {
  const { log } = await openLog(t)
  for (let n = 0; n < 25_000; n += 5_000)
    await Promise.all(Array.from({ length: 5_000 }, (_, i) => log.append(approval(`a${n + i}`))))
  const first = await log.query({
    kind: 'command',
    outcome: 'accepted',
    userId: 'alice',
    threadId: 'thread-1',
    type: 'note'
  })
  t.same(first.records, [])
  t.ok(first.nextCursor)
  const second = await log.query({ type: 'note', threadId: 'thread-1', cursor: first.nextCursor as string })
  t.same(second, { records: [] })
})

t.test('a full export is the log, byte for byte, and verifies by itself', async (t) => {
  const { dir, log } = await openLog(t, { segmentBytes: 2_000 })
  for (let n = 0; n < 8; n++) await log.append(approval(`a${n}`))
  const lines = await collect(log.exportNdjson())
  t.same(
    lines,
    (await readSegments(dir)).flat().map((line) => `${line}\n`)
  )
  const copy = t.testdir({ copy: {} })
  await writeFile(join(copy, 'copy/audit-000001.jsonl'), lines.join(''))
  t.match(await verifyAudit(join(copy, 'copy')), { ok: true, records: 8 })
})

t.test('the index is only derived: removed or of another log, it is built anew', async (t) => {
  const root = t.testdir()
  const [dir, other] = [join(root, 'a'), join(root, 'b')]
  for (const [path, count] of [
    [dir, 40],
    [other, 60]
  ] as const) {
    const log = await AuditLog.open(path, { segmentBytes: 5_000 })
    await fill(log, count)
    await log.query({})
    await log.close()
  }
  const breaks = [
    () => rm(join(dir, 'index.lmdb')),
    () => copyFile(join(other, 'index.lmdb'), join(dir, 'index.lmdb')),
    async () => {}
  ]
  for (const [round, breakIndex] of breaks.entries()) {
    await breakIndex()
    const log = await AuditLog.open(dir)
    await log.append(approval('new'))
    const { records } = await log.query({ userId: 'alice', limit: 200 })
    await log.close()
    t.same(
      records.map((record) => record.seq),
      Array.from({ length: 41 + round }, (_, n) => 41 + round - n)
    )
  }
})

t.test('an index file that crashes lmdb costs one start, not every start', async (t) => {
  const dir = t.testdir()
  const log = await AuditLog.open(dir)
  await fill(log, 3)
  await log.close()
  await writeFile(join(dir, 'index.lmdb'), 'x'.repeat(10_000))
  const first = startWriter(dir, { mode: 'hold' })
  // Mostly lmdb ends the process by a signal; on some memory layouts it never comes back. Either way it costs this start.
  const patience = setTimeout(() => first.kill(), 10_000)
  await first.until(1)
  clearTimeout(patience)
  first.kill()
  await first.ended
  const second = await AuditLog.open(dir)
  t.equal((await second.query({})).records.length, 3)
  await second.close()
})

t.test('the newest head goes to the head store, and a store that fails warns only', async (t) => {
  const kept: Head[] = []
  const warnings: string[] = []
  let isBroken = false
  const headStore = {
    get: async () => kept.at(-1),
    put: async (head: Head) => {
      if (isBroken) throw new Error('no store')
      kept.push(head)
    }
  }
  const dir = t.testdir()
  const log = await AuditLog.open(dir, { headStore, onWarning: (message) => warnings.push(message) })
  await fill(log, 5)
  await log.append(approval('x'))
  isBroken = true
  await log.append(approval('y'))
  await log.close()
  t.match(warnings, [/head/])
  t.ok(kept.every((head, n) => n === 0 || head.seq > (kept[n - 1]?.seq ?? 0)))
  isBroken = false
  await (await AuditLog.open(dir, { headStore })).close()
  t.equal(kept.at(-1)?.seq, 7, 'opening catches up')
  await rm(join(dir, 'audit-000001.jsonl'))
  await t.rejects(AuditLog.open(dir, { headStore }), { code: 'CC_AUDIT_DAMAGED' }, 'a removed log is missed')
})

t.test('a directory has one writer: the living one, and after its death exactly one successor', async (t) => {
  const dir = t.testdir()
  const owner = startWriter(dir, { mode: 'hold' })
  await owner.until(1)
  t.same(owner.lines, ['held'], owner.errors())
  await t.rejects(AuditLog.open(dir), { code: 'CC_AUDIT_LOCKED', message: /Process \d+ already writes/ })
  owner.kill()
  await owner.ended
  const rivals = [1, 2, 3, 4].map(() => startWriter(dir, { mode: 'hold' }))
  await Promise.all(rivals.map((rival) => rival.until(1)))
  t.same(rivals.flatMap((rival) => rival.lines).sort(), [
    'CC_AUDIT_LOCKED',
    'CC_AUDIT_LOCKED',
    'CC_AUDIT_LOCKED',
    'held'
  ])
  for (const rival of rivals) rival.kill()
  await Promise.all(rivals.map((rival) => rival.ended))
  const log = await AuditLog.open(dir)
  await t.rejects(AuditLog.open(dir), { code: 'CC_AUDIT_LOCKED' }, 'also within one process')
  await log.close()
})

t.test(
  'a process id that another process has now does not block, and an owner that was followed writes no more',
  async (t) => {
    const dir = t.testdir()
    const first = await AuditLog.open(dir, { retryDelayMs: 0 })
    await fill(first, 2)
    const [lock = ''] = (await readdir(dir)).filter((name) => name.startsWith('lock-'))
    await writeFile(join(dir, lock), JSON.stringify({ pid: process.pid, startTime: '1', world: '', released: false }))
    const second = await AuditLog.open(dir)
    await second.append(approval('second'))
    for (let n = 0; n < 2; n++) {
      await t.rejects(first.append(approval('first')), {
        code: 'CC_AUDIT_UNAVAILABLE',
        message: /taken the directory over/
      })
    }
    await second.append(approval('third'))
    await first.close()
    await second.close()
    t.match(await verifyAudit(dir), { ok: true, records: 4 })
  }
)
