import { createHash } from 'node:crypto'
import { Compile } from 'typebox/compile'
import { AuditEntryInvalid } from '../../errors.ts'
import { type AuditEntry, AuditEntrySchema, type AuditRecord } from '../../schemas/audit.ts'
import { canonicalJson } from './canonical.ts'
import { redact, redactArgv } from './redact.ts'

/** `prev` of the first record. */
export const GENESIS_HASH = '0'.repeat(64)
/** No line is longer: a reader can hold one. The bounds below keep records far under it. */
export const MAX_LINE_BYTES = 1024 * 1024
const MAX_TEXT_CHARS = 16_384
const MAX_LIST_ITEMS = 1_000
const MAX_LIST_CHARS = 32_768
const HASH_MEMBER = Buffer.from(',"hash":"')
const HASH_MEMBER_BYTES = HASH_MEMBER.length + 64 + 1

/** A position in the chain. */
export interface Head {
  seq: number
  hash: string
}

/** An entry as it will be written: redacted, hashed, clipped, not yet in the chain. */
export type PreparedEntry = AuditEntry & { commandSha256?: string; pathsSha256?: string; clipped?: string[] }

const entryCheck = Compile(AuditEntrySchema)

export function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Checks an entry and takes the secrets out. Throws AuditEntryInvalid, naming the first field that does not fit. */
export function prepareEntry(entry: AuditEntry): PreparedEntry {
  if (!entryCheck.Check(entry)) {
    const [problem] = entryCheck.Errors(entry)
    throw new AuditEntryInvalid(`${problem?.instancePath || '/'} ${problem?.message ?? 'does not fit'}`)
  }
  const clipped: string[] = []
  const text = (name: string, value: string) => clipText(name, redact(value), clipped)
  let prepared: PreparedEntry
  if (entry.type === 'approval') {
    prepared = { ...entry, verdict: { ...entry.verdict, reason: text('reason', entry.verdict.reason) } }
    if (entry.command !== undefined) {
      prepared.command = text('command', entry.command)
      prepared.commandSha256 = sha256(entry.command)
    }
    if (entry.argv) prepared.argv = clipList('argv', redactArgv(entry.argv.slice(0, MAX_LIST_ITEMS + 1)), clipped)
    if (entry.cwd !== undefined) prepared.cwd = text('cwd', entry.cwd)
    if (entry.subject !== undefined) prepared.subject = text('subject', entry.subject)
    if (entry.paths) {
      prepared.paths = clipList('paths', entry.paths.slice(0, MAX_LIST_ITEMS + 1).map(redact), clipped)
      if (clipped.includes('paths')) prepared.pathsSha256 = sha256(canonicalJson(entry.paths))
    }
  } else {
    prepared = { ...entry } as PreparedEntry
    if (entry.message !== undefined) Object.assign(prepared, { message: text('message', entry.message) })
  }
  if (clipped.length > 0) prepared.clipped = clipped
  return prepared
}

function clipText(name: string, value: string, clipped: string[]): string {
  if (value.length <= MAX_TEXT_CHARS) return value
  clipped.push(name)
  return value.slice(0, MAX_TEXT_CHARS)
}

function clipList(name: string, values: string[], clipped: string[]): string[] {
  let chars = 0
  const kept = values.filter((value, index) => {
    chars += value.length
    return index < MAX_LIST_ITEMS && chars <= MAX_LIST_CHARS
  })
  if (kept.length < values.length) clipped.push(name)
  return kept
}

/** Puts an entry behind `previous`: the record and its line (canonical JSON and a line feed). */
export function sealRecord(entry: PreparedEntry, previous: Head, atMs: number): { record: AuditRecord; line: Buffer } {
  const body = { ...entry, v: 1, seq: previous.seq + 1, at: new Date(atMs).toISOString(), prev: previous.hash }
  const record = { ...body, hash: sha256(canonicalJson(body)) } as AuditRecord
  return { record, line: Buffer.from(`${canonicalJson(record)}\n`) }
}

export interface ReadRecord {
  record: AuditRecord
  /** What the bytes hash to; differs from `record.hash` when the line was changed. */
  computed: string
}

/**
 * Reads one line (without its line feed). The hash is taken over the very bytes with the `hash` member cut out, so a
 * line that means the same but is written differently does not pass. Undefined when the line is no record.
 */
export function readRecord(line: Buffer): ReadRecord | undefined {
  const at = line.indexOf(HASH_MEMBER)
  if (at === -1) return undefined
  let record: AuditRecord
  try {
    record = JSON.parse(line.toString())
  } catch {
    return undefined
  }
  const { seq, prev, hash } = record
  if (!Number.isSafeInteger(seq) || typeof prev !== 'string' || typeof hash !== 'string') return undefined
  const digest = createHash('sha256')
    .update(line.subarray(0, at))
    .update(line.subarray(at + HASH_MEMBER_BYTES))
  return { record, computed: digest.digest('hex') }
}
