import { rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Database, open, type RootDatabase } from 'lmdb'
import type { AuditFilter, AuditRecord } from '../../schemas/audit.ts'
import type { Head } from './record.ts'

/** Where a record's line stands. */
export interface Place {
  segment: number
  offset: number
  /** Bytes, without the line feed. */
  length: number
}

/** Up to where the index has read the log: the place and the hash of the last record in it. */
export type IndexPosition = Head & Place

export interface PlacedRecord {
  record: AuditRecord
  place: Place
}

/** A position in the order of results: by time, then by seq. */
export interface Cursor {
  atMs: number
  seq: number
}

export interface ScanOptions {
  filter: AuditFilter
  newestFirst: boolean
  /** Continue behind this one. */
  after?: Cursor | undefined
  maxMatches: number
  /** Entries looked at, matching or not. */
  maxScanned: number
}

export interface ScanResult {
  matches: { seq: number; place: Place }[]
  /** The last entry looked at; undefined when the range is exhausted. */
  next: Cursor | undefined
}

type Axis = 'a' | 'k' | 'o' | 't' | 'u' | 'y'
type AxisKey = [Axis, string, number, number]
type Row = [
  segment: number,
  offset: number,
  length: number,
  type: string,
  userId: string,
  threadId: string,
  kind: string,
  outcome: string
]

const FORMAT = 1
/** Most records are approvals of commands: a key for each would be a second axis of all. */
const COMMON_TYPE = 'approval'
const COMMON_KIND = 'command'

/**
 * A derived index in LMDB: never the truth, rebuilt whenever it does not fit the log. Rows by seq, and keys
 * [axis, value, time, seq] for all records, users, threads, outcomes, rare types and rare kinds; the narrowest axis of a filter is walked and
 * the rest of the filter is tested on the rows.
 */
export class AuditIndex {
  readonly #root: RootDatabase
  readonly #rows: Database<Row, number>
  readonly #axes: Database<true, AxisKey>
  readonly #marker: string
  #position: IndexPosition | undefined

  private constructor(path: string, marker: string) {
    this.#marker = marker
    // With overlapping syncs a failed commit surfaces after the write was already called done. With batches per event
    // turn lmdb keeps a promise that nobody can hear: a full disk would end the process by an unhandled rejection.
    this.#root = open({ path, noSubdir: true, overlappingSync: false, eventTurnBatching: false })
    this.#rows = this.#root.openDB<Row, number>({ name: 'rows' })
    this.#axes = this.#root.openDB<true, AxisKey>({ name: 'axes' })
    const kept = this.#root.get('position')
    this.#position = kept?.format === FORMAT ? kept.position : undefined
  }

  /**
   * Opens the index beside the log. lmdb ends the process by a signal when its file is damaged, so a marker stands from
   * here until `markProven`; an opening that finds one makes the index anew. Needs the log's lock.
   */
  static async open(dir: string): Promise<AuditIndex> {
    const path = join(dir, 'index.lmdb')
    const marker = `${path}-opening`
    const found = await stat(marker).catch(() => undefined)
    if (found) for (const file of [path, `${path}-lock`]) await rm(file, { force: true })
    await writeFile(marker, '')
    return new AuditIndex(path, marker)
  }

  /** Call once the index has caught up: what is in it can be read. */
  async markProven(): Promise<void> {
    await rm(this.#marker, { force: true })
  }

  get position(): IndexPosition | undefined {
    return this.#position
  }

  async clear(): Promise<void> {
    this.#position = undefined
    await this.#root.remove('position')
    await this.#rows.clearAsync()
    await this.#axes.clearAsync()
  }

  /** Adds records in one transaction; `position` is that of the last one. */
  async add(placed: readonly PlacedRecord[]): Promise<void> {
    const last = placed.at(-1)
    if (!last) return
    const position = { seq: last.record.seq, hash: last.record.hash, ...last.place }
    try {
      // No rollback in lmdb when this throws: the position comes last, and adding twice is adding once.
      await this.#root.transaction(() => {
        for (const { record, place } of placed) this.#addOne(record, place)
        this.#root.putSync('position', { format: FORMAT, position })
      })
    } catch (err) {
      const { commitError } = err as { commitError?: Promise<unknown> }
      commitError?.catch(() => {})
      throw err
    }
    this.#position = position
  }

  #addOne(record: AuditRecord, place: Place): void {
    const { seq, type, userId = '' } = record
    const atMs = Date.parse(record.at)
    const approval = record.type === 'approval' ? record : undefined
    const threadId = approval?.threadId ?? ''
    const outcome = approval?.outcome ?? ''
    const row: Row = [place.segment, place.offset, place.length, type, userId, threadId, approval?.kind ?? '', outcome]
    this.#rows.putSync(seq, row)
    this.#axes.putSync(['a', '', atMs, seq], true)
    if (userId) this.#axes.putSync(['u', userId, atMs, seq], true)
    if (threadId) this.#axes.putSync(['t', threadId, atMs, seq], true)
    if (outcome) this.#axes.putSync(['o', outcome, atMs, seq], true)
    if (type !== COMMON_TYPE) this.#axes.putSync(['y', type, atMs, seq], true)
    if (approval && approval.kind !== COMMON_KIND) this.#axes.putSync(['k', approval.kind, atMs, seq], true)
  }

  /** One bounded, synchronous piece of a walk; call again with `after: next`. */
  scan(options: ScanOptions): ScanResult {
    const { filter, maxMatches, maxScanned } = options
    const matches: ScanResult['matches'] = []
    let scanned = 0
    for (const key of this.#axes.getKeys(rangeOf(options))) {
      const [, , atMs, seq] = key
      const row = this.#rows.get(seq)
      if (row && fits(row, filter)) {
        const [segment, offset, length] = row
        matches.push({ seq, place: { segment, offset, length } })
      }
      scanned++
      if (scanned >= maxScanned || matches.length >= maxMatches) return { matches, next: { atMs, seq } }
    }
    return { matches, next: undefined }
  }

  async close(): Promise<void> {
    await this.#root.close()
  }
}

function axisOf(filter: AuditFilter): [Axis, string] {
  if (filter.threadId !== undefined) return ['t', filter.threadId]
  if (filter.userId !== undefined) return ['u', filter.userId]
  if (filter.type !== undefined && filter.type !== COMMON_TYPE) return ['y', filter.type]
  if (filter.kind !== undefined && filter.kind !== COMMON_KIND) return ['k', filter.kind]
  if (filter.outcome !== undefined) return ['o', filter.outcome]
  return ['a', '']
}

/** A key that stops at the time sorts before every key of that millisecond: `since` is in, `until` is out. */
function rangeOf({ filter, newestFirst, after }: ScanOptions) {
  const [axis, value] = axisOf(filter)
  const sinceMs = filter.since === undefined ? Number.MIN_SAFE_INTEGER : Date.parse(filter.since)
  const untilMs = filter.until === undefined ? Number.MAX_SAFE_INTEGER : Date.parse(filter.until)
  const low = [axis, value, sinceMs]
  const high = [axis, value, untilMs]
  const behind =
    after && after.atMs >= sinceMs && after.atMs < untilMs ? [axis, value, after.atMs, after.seq] : undefined
  return newestFirst
    ? { start: behind ?? high, end: low, reverse: true, exclusiveStart: behind !== undefined }
    : { start: behind ?? low, end: high, exclusiveStart: behind !== undefined }
}

function fits([, , , type, userId, threadId, kind, outcome]: Row, filter: AuditFilter): boolean {
  return (
    (filter.type === undefined || filter.type === type) &&
    (filter.userId === undefined || filter.userId === userId) &&
    (filter.threadId === undefined || filter.threadId === threadId) &&
    (filter.kind === undefined || filter.kind === kind) &&
    (filter.outcome === undefined || filter.outcome === outcome)
  )
}
