import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { AuditLog } from '../../src/audit/audit-log.ts'
import { GENESIS_HASH, type PreparedEntry, sealRecord } from '../../src/audit/record.ts'
import { formatReport } from '../../src/audit/report.ts'
import { segmentAt } from '../../src/audit/segments.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { approval, fill, KEY, readRecords, readSegments, writeLines } from './fixtures.ts'

interface Log {
  dir: string
  segments: string[][]
}

/** Twelve records in three segments of four, signed at 4, 8 and 12. */
async function makeLog(dir: string): Promise<Log> {
  for (let batch = 0; batch < 3; batch++) {
    const log = await AuditLog.open(dir, { key: KEY, segmentBytes: 1 })
    await Promise.all([0, 1, 2, 3].map((n) => log.append(approval(`a${batch * 4 + n}`))))
    await log.close()
  }
  return { dir, segments: await readSegments(dir) }
}

async function write({ dir, segments }: Log): Promise<void> {
  for (const [index, lines] of segments.entries()) await writeLines(segmentAt(dir, index + 1).path, lines)
}

const lineAt = (log: Log, segment: number, line: number) => log.segments[segment - 1]?.[line - 1] ?? ''

t.test('an untouched log verifies, with or without the key, and the report says what cannot be excluded', async (t) => {
  const { dir } = await makeLog(t.testdir())
  const report = await verifyAudit(dir, { key: KEY })
  t.match(report, { ok: true, records: 12, findings: [], notes: [], head: { seq: 12 } })
  const keyless = await verifyAudit(dir)
  t.equal(keyless.ok, true)
  t.match(keyless.notes, [/rewritten cannot be excluded/])
  t.match(formatReport(keyless), /^OK\. 12 sound records; head 12 [0-9a-f]{64}\nnote: /)
})

type Tamper = (log: Log) => void
const swapped: Tamper = ({ segments: [, second = []] }) => {
  second.splice(1, 2, second[2] ?? '', second[1] ?? '')
}

const cases: [name: string, tamper: Tamper, expected: object[]][] = [
  [
    'one changed character',
    (log) => log.segments[1]?.splice(1, 1, lineAt(log, 2, 2).replace('"decision":"accept"', '"decision":"accepT"')),
    [{ kind: 'changed', file: 'audit-000002.jsonl', line: 2, seq: 6 }]
  ],
  [
    'the first record removed',
    (log) => log.segments[0]?.shift(),
    [{ kind: 'missing-start', file: 'audit-000001.jsonl', line: 1, seq: 1 }]
  ],
  [
    'a middle record removed',
    (log) => log.segments[1]?.splice(2, 1),
    [{ kind: 'missing', file: 'audit-000002.jsonl', line: 3, seq: 7, message: 'Record 7 is missing before record 8' }]
  ],
  [
    'the last record removed',
    (log) => log.segments[2]?.pop(),
    [{ kind: 'cut-tail', file: 'audit-000003.jsonl', line: 4, seq: 12 }]
  ],
  ['two records swapped', swapped, [{ kind: 'out-of-order', file: 'audit-000002.jsonl', line: 3, seq: 6 }]],
  [
    'a record twice',
    (log) => log.segments[2]?.splice(2, 0, lineAt(log, 1, 3)),
    [{ kind: 'repeated', file: 'audit-000003.jsonl', line: 3, seq: 3 }]
  ],
  [
    'records missing between segments',
    (log) => {
      log.segments[0]?.pop()
      log.segments[1]?.shift()
    },
    [{ kind: 'missing', file: 'audit-000002.jsonl', line: 1, seq: 4, message: /^Records 4 to 5/ }]
  ],
  [
    'a line that is no record',
    (log) => log.segments[0]?.splice(2, 1, 'x'.repeat(3_000_000)),
    [{ kind: 'unreadable', file: 'audit-000001.jsonl', line: 3, seq: 3 }]
  ]
]

for (const [name, tamper, expected] of cases) {
  t.test(`the verifier names the place of ${name}, and of nothing else`, async (t) => {
    const log = await makeLog(t.testdir())
    tamper(log)
    await write(log)
    const report = await verifyAudit(log.dir, { key: KEY })
    t.equal(report.ok, false)
    t.match(report.findings, expected)
    t.equal(report.findings.length, expected.length, formatReport(report))
    const { file, line } = expected[0] as { file: string; line: number }
    t.match(formatReport(report), `${file}:${line} record `)
  })
}

t.test('a whole segment that is not there is named', async (t) => {
  const { dir } = await makeLog(t.testdir())
  await rm(segmentAt(dir, 2).path)
  const { findings } = await verifyAudit(dir, { key: KEY })
  t.match(findings, [
    { kind: 'missing-segment', file: 'audit-000003.jsonl' },
    { kind: 'missing', seq: 5 }
  ])
})

t.test('a removed last record shows against the kept head alone, without any key', async (t) => {
  const log = await makeLog(t.testdir())
  const { head } = await verifyAudit(log.dir)
  log.segments[2]?.pop()
  await write(log)
  await rm(join(log.dir, 'checkpoints.jsonl'))
  t.match((await verifyAudit(log.dir)).findings, [{ kind: 'cut-tail', seq: 12 }], 'head.json')
  await rm(join(log.dir, 'head.json'))
  t.match((await verifyAudit(log.dir, { head })).findings, [{ kind: 'cut-tail', seq: 12 }], 'a head kept elsewhere')
  t.match(await verifyAudit(log.dir), { ok: true, notes: [/rewritten/, /cut behind the last checkpoint/] })
})

t.test('every flipped byte is found in its line', { timeout: 300_000 }, async (t) => {
  const dir = t.testdir()
  const log = await AuditLog.open(dir, { key: KEY })
  await fill(log, 4)
  await log.close()
  const { path } = segmentAt(dir, 1)
  const bytes = await readFile(path)
  const step = process.env.FULL ? 1 : 11
  const missed: number[] = []
  let line = 1
  for (let at = 0; at < bytes.length; at++) {
    const isEnd = bytes[at] === 10
    if (at % step === 0 || isEnd) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (bytes[at] as number) ^ 1
      await writeFile(path, flipped)
      const [first] = (await verifyAudit(dir, { key: KEY })).findings
      if (first?.line !== line || first.seq !== line) missed.push(at)
    }
    if (isEnd) line++
  }
  t.same(missed, [])
})

/** What someone without the key can do: change a record and compute every later hash anew. */
async function rewriteChain(dir: string, change: (entry: PreparedEntry, seq: number) => PreparedEntry): Promise<void> {
  let head = { seq: 0, hash: GENESIS_HASH }
  const lines: string[] = []
  for (const { v: _v, seq, at, prev: _prev, hash: _hash, ...entry } of await readRecords(dir)) {
    const { record, line } = sealRecord(change(entry as PreparedEntry, seq), head, Date.parse(at))
    head = { seq: record.seq, hash: record.hash }
    lines.push(line.toString().trimEnd())
  }
  await write({ dir, segments: [0, 4, 8].map((from) => lines.slice(from, from + 4)) })
  await writeFile(join(dir, 'head.json'), JSON.stringify(head))
}

t.test('a chain rewritten without the key is found at the first signature that it breaks', async (t) => {
  const { dir } = await makeLog(t.testdir())
  await rewriteChain(dir, (entry, seq) => (seq === 6 ? ({ ...entry, decision: 'decline' } as PreparedEntry) : entry))
  const { findings } = await verifyAudit(dir, { key: KEY })
  t.match(findings, [{ kind: 'rewritten', file: 'audit-000002.jsonl', line: 4, seq: 8, message: /records 5 to 8/ }])
  t.equal(findings.length, 1)

  await rm(join(dir, 'checkpoints.jsonl'))
  t.match(
    await verifyAudit(dir),
    { ok: true, notes: [/cannot be excluded/] },
    'without checkpoints and key nothing shows'
  )
  t.match(
    (await verifyAudit(dir, { key: KEY })).findings,
    [{ kind: 'checkpoint-missing' }],
    'with the key, their absence'
  )
  await (await AuditLog.open(dir, { key: KEY })).close()
  t.match(
    (await readRecords(dir)).at(-1),
    { type: 'note', event: 'signing-begins' },
    'a new signature does not vouch for it'
  )
  t.match(await verifyAudit(dir, { key: KEY }), {
    ok: true,
    notes: [/Records 1 to 12 are older than the first signature/]
  })
})

t.test('a changed, a removed and a foreign checkpoint are found, and a torn one is not one', async (t) => {
  const { dir } = await makeLog(t.testdir())
  const path = join(dir, 'checkpoints.jsonl')
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n')
  t.equal(lines.length, 3, 'signed at 4, 8 and 12')
  const found = async (changed: string[]) => {
    await writeLines(path, changed)
    return (await verifyAudit(dir, { key: KEY })).findings
  }
  t.match(await found(lines.toSpliced(1, 1)), [{ kind: 'checkpoint-missing', file: 'checkpoints.jsonl', line: 2 }])
  const forged = lines.map((line, n) => (n === 1 ? line.replace(/"hash":"[0-9a-f]/, '"hash":"x') : line))
  t.match(await found(forged), [
    { kind: 'checkpoint-changed', file: 'checkpoints.jsonl', line: 2 },
    { kind: 'checkpoint-missing', line: 3 }
  ])
  await writeFile(path, `${lines.join('\n')}\n{"at":`)
  t.same((await verifyAudit(dir, { key: KEY })).findings, [])
  await (await AuditLog.open(dir, { key: KEY })).close()
  t.equal(await readFile(path, 'utf8'), `${lines.join('\n')}\n`, 'opening cuts it')
  t.match((await verifyAudit(dir, { key: 'another' })).findings, [{ kind: 'checkpoint-unknown-key', line: 1 }])
  t.equal((await verifyAudit(dir, { key: ['another', KEY] })).ok, true, 'keys that were ever used')
})

t.test('a log without a file verifies as empty', async (t) => {
  t.match(await verifyAudit(join(t.testdir(), 'none')), { ok: true, records: 0, head: undefined })
})
