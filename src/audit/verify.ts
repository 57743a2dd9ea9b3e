import { stat } from 'node:fs/promises'
import { ChainCheck } from './chain-check.ts'
import { CheckpointCheck } from './checkpoint-check.ts'
import { type Finding, Findings, type Place } from './findings.ts'
import { FileHeadStore } from './head-store.ts'
import { type Head, type ReadRecord, readRecord } from './record.ts'
import { listSegments, readLines, type Segment, segmentAt } from './segments.ts'

export interface VerifyOptions {
  /** The signing key, or all keys that were ever used. Without one signatures are not checked. */
  key?: string | readonly string[] | undefined
  /** The head kept in another place (HeadStore). Default: `head.json` beside the log. */
  head?: Head | undefined
}

export interface AuditReport {
  /** No finding. What an unfinding verifier still cannot exclude stands in `notes`. */
  ok: boolean
  /** Sound records in order. */
  records: number
  /** The last of them. */
  head: Head | undefined
  findings: Finding[]
  /** Findings beyond the first 1,000. */
  omittedFindings: number
  notes: string[]
}

/**
 * Reads a whole log (and only reads it; the gateway may run) and names the place of everything that does not fit:
 * a changed byte, records missing, moved or repeated, a torn or cut tail, a chain rewritten without the key. Memory does
 * not grow with the log.
 */
export async function verifyAudit(dir: string, options: VerifyOptions = {}): Promise<AuditReport> {
  const keys = typeof options.key === 'string' ? [options.key] : (options.key ?? [])
  const kept = options.head ?? (await new FileHeadStore(dir).get())
  const findings = new Findings()
  const run = new Verification(findings, await CheckpointCheck.open(dir, keys, findings), kept)
  const segments = await listSegments(dir)
  for (const [index, segment] of segments.entries()) {
    run.expectSegment(segment, index === 0 ? 1 : (segments[index - 1] as Segment).number + 1)
    await run.readSegment(segment, index === segments.length - 1)
  }
  return run.finish(keys.length > 0)
}

class Verification {
  readonly #findings: Findings
  readonly #chain: ChainCheck
  readonly #checkpoints: CheckpointCheck
  readonly #kept: Head | undefined
  readonly #notes: string[] = []
  #records = 0
  #place: Place = { file: segmentAt('', 1).name, line: 0 }

  constructor(findings: Findings, checkpoints: CheckpointCheck, kept: Head | undefined) {
    this.#findings = findings
    this.#chain = new ChainCheck(findings)
    this.#checkpoints = checkpoints
    this.#kept = kept
  }

  expectSegment(segment: Segment, number: number): void {
    if (segment.number === number) return
    const missing = segmentAt('', number).name
    const message = `${missing} is not there, nor any other segment before ${segment.name}`
    this.#findings.add('missing-segment', { file: segment.name, line: 1 }, this.#chain.expected, message)
  }

  async readSegment(segment: Segment, isLast: boolean): Promise<void> {
    this.#place = { file: segment.name, line: 0 }
    for await (const lines of readLines(segment.path)) {
      for (const { bytes, offset, complete } of lines) {
        this.#place.line++
        if (!complete && isLast) await this.#reportTorn(segment, offset + bytes.length)
        else await this.#takeLine(complete ? readRecord(bytes) : undefined)
      }
    }
  }

  async finish(hasKey: boolean): Promise<AuditReport> {
    await this.#checkpoints.finish()
    this.#compareEnds()
    this.#noteLimits(hasKey)
    const { list, omitted } = this.#findings
    const head = this.#chain.head
    const ok = list.length === 0
    return { ok, records: this.#records, head, findings: list, omittedFindings: omitted, notes: this.#notes }
  }

  async #takeLine(read: ReadRecord | undefined): Promise<void> {
    if (!this.#chain.take(read, this.#place) || !read) return
    this.#records++
    const { seq, hash } = read.record
    if (this.#checkpoints.isDue(seq)) await this.#checkpoints.compare({ seq, hash }, this.#place)
    if (this.#kept?.seq === seq && this.#kept.hash !== hash) {
      this.#findings.add('rewritten', this.#place, seq, `Record ${seq} is not the one that the kept head names`)
    }
  }

  async #reportTorn(segment: Segment, end: number): Promise<void> {
    if ((await stat(segment.path)).size > end) {
      this.#notes.push(`${segment.name} grew while it was read; what is new was not read`)
      return
    }
    const message = `${segment.name} ends in an unfinished line; the next opening of the log recovers it`
    this.#findings.add('torn-tail', this.#place, this.#chain.expected, message)
  }

  #compareEnds(): void {
    const { newest } = this.#checkpoints
    const signed = { head: newest, source: 'a checkpoint names' }
    const kept = { head: this.#kept, source: 'the kept head is' }
    const [far] = [signed, kept].sort((a, b) => (b.head?.seq ?? 0) - (a.head?.seq ?? 0))
    const lastSeq = this.#chain.expected - 1
    if (!far?.head || far.head.seq <= lastSeq) return
    const place = { file: this.#place.file, line: this.#place.line + 1 }
    const message = `The log ends at record ${lastSeq}, but ${far.source} record ${far.head.seq}: its end was cut`
    this.#findings.add('cut-tail', place, lastSeq + 1, message)
  }

  #noteLimits(hasKey: boolean): void {
    const lastSeq = this.#chain.head?.seq ?? 0
    const { newest, unsignedUntil } = this.#checkpoints
    if (!hasKey) {
      this.#notes.push('No key was given: that the whole chain was rewritten cannot be excluded')
    } else if (newest === undefined) {
      if (lastSeq === 0) return
      this.#findings.add(
        'checkpoint-missing',
        { file: 'checkpoints.jsonl', line: 1 },
        1,
        'No checkpoint of this key is there: the log was never signed, or its checkpoints were removed'
      )
    } else {
      if (unsignedUntil) this.#notes.push(`Records 1 to ${unsignedUntil} are older than the first signature over them`)
      if (newest.seq < lastSeq) this.#notes.push(`Records ${newest.seq + 1} to ${lastSeq} are not signed yet`)
    }
    if (this.#kept === undefined)
      this.#notes.push('No head kept elsewhere was compared: a cut behind the last checkpoint would not show')
  }
}
