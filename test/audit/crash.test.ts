import { appendFile, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { AuditLog } from '../../src/audit/audit-log.ts'
import { listSegments } from '../../src/audit/segments.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { scratchDirectory } from '../support/gateway.ts'
import { eventually } from '../support/processes.ts'
import { type ApprovalRecord, approval, fill, KEY, readRecords, readSegments, startWriter } from './fixtures.ts'
import { openLog } from './open-log.ts'

const ROUNDS = process.env.FULL ? 200 : 15
// A round is one start of the writer: seconds on a busy machine.
const TIMEOUT_MS = ROUNDS * 10_000
t.setTimeout(TIMEOUT_MS + 60_000)

function acksOf(lines: string[]): Map<string, number> {
  const acks = lines.map((line) => /^(\d+) (\S+)$/.exec(line)).filter((match) => match !== null)
  return new Map(acks.map((match) => [match[2] as string, Number(match[1])]))
}

async function seqsById(dir: string): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>()
  for (const record of await readRecords(dir)) {
    const { approvalId } = record as ApprovalRecord
    if (approvalId) found.set(approvalId, [...(found.get(approvalId) ?? []), record.seq])
  }
  return found
}

t.test(
  `killed ${ROUNDS} times, the log keeps every acknowledged record exactly once`,
  { timeout: TIMEOUT_MS },
  async (t) => {
    const dir = t.testdir()
    const acked = new Map<string, number>()
    for (let round = 0; round < ROUNDS; round++) {
      const writer = startWriter(dir, { mode: 'appendForever', tag: `r${round}` })
      await writer.until(1 + Math.floor(Math.random() * 400))
      writer.kill()
      await writer.ended
      t.notMatch(writer.errors(), /Error/, `round ${round}`)
      for (const [id, seq] of acksOf(writer.lines)) acked.set(id, seq)
    }
    const log = await AuditLog.open(dir, { key: KEY })
    const { records: page } = await log.query({ limit: 5 })
    await log.close()
    t.ok(acked.size > ROUNDS, `${acked.size} acknowledged`)
    const found = await seqsById(dir)
    const wrong = [...acked].filter(([id, seq]) => found.get(id)?.length !== 1 || found.get(id)?.[0] !== seq)
    t.same(wrong, [])
    t.same(
      [...found].filter(([, seqs]) => seqs.length !== 1),
      [],
      'none stands twice'
    )
    const report = await verifyAudit(dir, { key: KEY })
    t.same(report.findings, [])
    t.equal(page[0]?.seq, report.head?.seq, 'the index followed')
  }
)

t.test('a file that may not grow refuses the write, keeps the chain and goes on in the next segment', async (t) => {
  const dir = t.testdir()
  // 1,024-byte blocks: about 320 of the 900 records fit into one file.
  const writer = startWriter(dir, { mode: 'appendToLimit', shell: 'ulimit -f 256' })
  await writer.ended
  const acked = acksOf(writer.lines)
  const refused = writer.lines.map((line) => /^refused (\S+) (\S+)$/.exec(line)).filter((match) => match !== null)
  t.equal(acked.size + refused.length, 900, writer.errors())
  t.ok(refused.length > 0, 'the limit was met')
  t.same(new Set(refused.map((match) => match[2])), new Set(['CC_AUDIT_UNAVAILABLE']))
  const report = await verifyAudit(dir, { key: KEY })
  t.same(report.findings, [])
  const found = await seqsById(dir)
  t.same(
    [...acked].filter(([id, seq]) => String(found.get(id)) !== String(seq)),
    []
  )
  t.same(
    refused.filter((match) => found.has(match[1] as string)),
    [],
    'no refused record stands in the chain'
  )
  const notes = (await readRecords(dir)).filter((record) => record.type === 'note')
  t.ok(notes.length > 0 && notes.every((note) => note.type === 'note' && note.event === 'writes-refused'))
  const told = notes.map((note) => Number(/^(\d+) records/.exec('message' in note ? (note.message ?? '') : '')?.[1]))
  t.equal(
    told.reduce((sum, n) => sum + n, 0),
    refused.length,
    'the notes count what was refused'
  )
})

t.test('a failed sync refuses its records and all that wait, and the next append recovers', async (t) => {
  const { dir, log } = await openLog(t, { key: KEY, retryDelayMs: 0 })
  await fill(log, 3)
  await failNextSync(dir, async () => {
    const results = await Promise.allSettled([log.append(approval('lost-1')), log.append(approval('lost-2'))])
    t.same(
      results.map((result) => result.status === 'rejected' && result.reason.code),
      ['CC_AUDIT_UNAVAILABLE', 'CC_AUDIT_UNAVAILABLE']
    )
    t.match(log.unavailableReason, /EIO/)
  })
  const { seq } = await log.append(approval('after'))
  t.equal(seq, 5, 'the note is 4')
  t.equal(log.unavailableReason, undefined)
  t.same(
    (await readSegments(dir)).map((lines) => lines.length),
    [3, 2]
  )
  t.notOk((await seqsById(dir)).has('lost-1'))
  t.same((await verifyAudit(dir, { key: KEY })).findings, [])
  t.equal((await log.query({ type: 'note' })).records.length, 1)
})

t.test('a log that could not be written recovers although nobody appends', async (t) => {
  const { dir, log } = await openLog(t, { key: KEY, retryDelayMs: 20 })
  await failNextSync(dir, async () => {
    await t.rejects(log.append(approval('lost')))
    t.match(log.unavailableReason, /EIO/)
  })
  await eventually('it takes records again', 5_000, () => log.unavailableReason === undefined)
  t.match((await log.query({})).records, [{ type: 'note', event: 'writes-refused', message: /^1 records/ }])
  t.same((await verifyAudit(dir, { key: KEY })).findings, [])
})

t.test('within the retry delay appends are refused at once, without touching the disk', async (t) => {
  const { dir, log } = await openLog(t, { retryDelayMs: 60_000 })
  await fill(log, 1)
  await failNextSync(dir, () => t.rejects(log.append(approval('x'))))
  await t.rejects(log.append(approval('y')), { code: 'CC_AUDIT_UNAVAILABLE' })
  t.equal((await log.query({})).records.length, 1)
})

t.test('closing does not wait longer than its bound for a disk that hangs, and rejects what waits', async (t) => {
  // What was given up on goes on when the disk answers, after the test: tap's own directory could not be removed then.
  const dir = await scratchDirectory(t)
  const log = await AuditLog.open(dir, { closeTimeoutMs: 50 })
  await fill(log, 1)
  let release = () => {}
  const hanging = new Promise<void>((resolve) => {
    release = resolve
  })
  await withSync(
    dir,
    () => hanging,
    async () => {
      const appended = t.rejects(log.append(approval('x')), { code: 'CC_AUDIT_UNAVAILABLE' })
      await new Promise((resolve) => setImmediate(resolve))
      await log.close()
      await appended
    }
  )
  release()
})

t.test('an unfinished write of any length is cut, kept aside and noted', async (t) => {
  const next = `${JSON.stringify({ ...approval('torn'), filler: 'x'.repeat(200) })}`
  for (const length of [1, 7, 100, next.length]) {
    const dir = t.testdir({})
    const first = await AuditLog.open(dir, { key: KEY })
    await fill(first, 3)
    await first.close()
    const torn = next.slice(0, length)
    await appendFile((await listSegments(dir)).at(-1)?.path ?? '', torn)
    t.match((await verifyAudit(dir, { key: KEY })).findings, [
      { kind: 'torn-tail', file: 'audit-000001.jsonl', line: 4, seq: 4 }
    ])
    const log = await AuditLog.open(dir, { key: KEY })
    const { records } = await log.query({})
    await log.close()
    t.match(records[0], { type: 'note', event: 'torn-tail', seq: 4 })
    t.equal(await readFile(join(dir, 'torn-000004.bin'), 'utf8'), torn)
    t.same((await verifyAudit(dir, { key: KEY })).findings, [])
  }
})

t.test('a crash between the cut and its note leaves the note to the next opening, once', async (t) => {
  const dir = t.testdir()
  const first = await AuditLog.open(dir)
  await fill(first, 3)
  await first.close()
  await writeFile(join(dir, 'torn-000004.bin'), '{"actor":')
  for (let n = 0; n < 2; n++) await (await AuditLog.open(dir)).close()
  const notes = (await readRecords(dir)).filter((record) => record.type === 'note')
  t.equal(notes.length, 1)
})

t.test('a log whose durable end is gone does not open, and says so in the chain when that is accepted', async (t) => {
  const dir = t.testdir()
  const first = await AuditLog.open(dir, { key: KEY })
  await fill(first, 5)
  await first.close()
  const [segment] = await listSegments(dir)
  const lines = (await readSegments(dir)).flat()
  await truncate(
    segment?.path ?? '',
    lines.slice(0, 3).reduce((sum, line) => sum + line.length + 1, 0)
  )
  await t.rejects(AuditLog.open(dir, { key: KEY }), { code: 'CC_AUDIT_DAMAGED', message: /ends at record 3.*record 5/ })
  await rm(join(dir, 'head.json'))
  await t.rejects(AuditLog.open(dir, { key: KEY }), { code: 'CC_AUDIT_DAMAGED' }, 'the checkpoint names record 5 too')
  t.same(
    (await readdir(dir)).filter((name) => name.startsWith('torn')),
    [],
    'nothing was cut'
  )

  const log = await AuditLog.open(dir, { key: KEY, acceptDamage: 'disk 2 was replaced' })
  const { records } = await log.query({ type: 'note' })
  await log.close()
  t.match(records, [{ seq: 6, event: 'damage-accepted', message: /disk 2 was replaced/ }])
  const { findings } = await verifyAudit(dir, { key: KEY })
  t.match(findings, [{ kind: 'missing', seq: 4, file: 'audit-000002.jsonl', line: 1 }], 'the loss still shows')
  t.equal(findings.length, 1)
})

t.test('a changed record in front of a known head is damage, not a torn tail', async (t) => {
  const dir = t.testdir()
  const first = await AuditLog.open(dir)
  await fill(first, 4)
  await first.close()
  const [segment] = await listSegments(dir)
  const text = await readFile(segment?.path ?? '', 'utf8')
  await writeFile(segment?.path ?? '', text.replace('"approvalId":"a2"', '"approvalId":"b2"'))
  await t.rejects(AuditLog.open(dir), { code: 'CC_AUDIT_DAMAGED' })
})

type FileHandlePrototype = { datasync(): Promise<void> }

/** A disk's own errors cannot be caused from here: the sync of every file is replaced while `run` runs. */
async function withSync(dir: string, sync: () => Promise<void>, run: () => Promise<unknown>): Promise<void> {
  const { open } = await import('node:fs/promises')
  const handle = await open(join(dir, 'audit-000001.jsonl'), 'r')
  const prototype: FileHandlePrototype = Object.getPrototypeOf(handle)
  await handle.close()
  const original = prototype.datasync
  prototype.datasync = sync
  try {
    await run()
  } finally {
    prototype.datasync = original
  }
}

function failNextSync(dir: string, run: () => Promise<unknown>): Promise<void> {
  return withSync(dir, () => Promise.reject(new Error('EIO: i/o error, fdatasync')), run)
}
