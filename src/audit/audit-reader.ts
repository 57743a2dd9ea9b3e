import { open } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AuditDamaged, StoreUnavailable, ValidationFailed } from '../../errors.ts'
import type { AuditFilter, AuditPage, AuditQuery, AuditRecord } from '../../schemas/audit.ts'
import { AuditIndex, type Cursor, type PlacedRecord } from './audit-index.ts'
import { readRecord } from './record.ts'
import { listSegments, readLines, segmentAt } from './segments.ts'

const DEFAULT_LIMIT = 50
const MAX_LIMIT = 200
/** Entries one page may look at; then the page is short and its cursor goes on. */
const MAX_SCANNED_PER_PAGE = 20_000
/** One turn of the event loop looks at this many. */
const SCAN_STEP = 1_000
/** Beyond, the index falls back to reading the files. */
const MAX_PENDING = 10_000
/** Records per transaction of the index: building one holds the event loop. */
const MAX_ADD = 500

/** Up to where the log is durable. */
export interface DurableEnd {
  seq: number
  segment: number
  bytes: number
}

export interface AuditReaderOptions {
  dir: string
  durable: DurableEnd
  onWarning: (message: string, err: unknown) => void
}

/** Queries and exports over a log, through an index that follows it. */
export class AuditReader {
  readonly #dir: string
  readonly #index: AuditIndex
  readonly #onWarning: (message: string, err: unknown) => void
  #durable: DurableEnd
  #pending: PlacedRecord[] = []
  #behind = true
  #failure: unknown
  #running: Promise<void> | undefined
  #closed = false

  private constructor(options: AuditReaderOptions, index: AuditIndex) {
    this.#dir = options.dir
    this.#durable = options.durable
    this.#onWarning = options.onWarning
    this.#index = index
    this.#start()
  }

  /** Opens the index and lets it catch up in the background; a query waits for it. */
  static async open(options: AuditReaderOptions): Promise<AuditReader> {
    return new AuditReader(options, await AuditIndex.open(options.dir))
  }

  /** Takes records that are durable now, in order. */
  follow(placed: readonly PlacedRecord[], durable: DurableEnd): void {
    this.#durable = durable
    if (this.#pending.length + placed.length > MAX_PENDING) this.#behind = true
    if (this.#behind) this.#pending = []
    else this.#pending.push(...placed)
    this.#start()
  }

  /** Newest first. Sees every record whose append has resolved. Rejects with ValidationFailed for a made-up cursor. */
  async query(query: AuditQuery): Promise<AuditPage> {
    const { cursor, limit = DEFAULT_LIMIT, ...filter } = query
    const maxMatches = Math.max(1, Math.min(limit, MAX_LIMIT))
    checkTimes(filter)
    let after = cursor === undefined ? undefined : decodeCursor(cursor)
    await this.#caughtUp()
    const places: PlacedRecord['place'][] = []
    for (let scanned = 0; scanned < MAX_SCANNED_PER_PAGE; scanned += SCAN_STEP) {
      const missing = maxMatches - places.length
      const { matches, next } = this.#index.scan({
        filter,
        newestFirst: true,
        after,
        maxMatches: missing,
        maxScanned: SCAN_STEP
      })
      places.push(...matches.map((match) => match.place))
      after = next
      if (!next || places.length >= maxMatches) break
      await nextTurn()
    }
    const records = await this.#readAll(places)
    return { records, ...(after && { nextCursor: encodeCursor(after) }) }
  }

  /**
   * Lines (each with its line feed), oldest first. Without a filter: the log as it stands, which the verifier accepts.
   * With one: a first line that says it cannot be verified by itself, then the matching records.
   */
  async *exportNdjson(filter: AuditFilter = {}): AsyncGenerator<string> {
    checkTimes(filter)
    if (Object.values(filter).every((value) => value === undefined)) {
      yield* this.#exportAll()
      return
    }
    const statement = 'A selection: neither its completeness nor its order can be verified by itself.'
    yield `${JSON.stringify({ type: 'export', verifiable: false, statement, filter })}\n`
    await this.#caughtUp()
    let after: Cursor | undefined
    do {
      const { matches, next } = this.#index.scan({
        filter,
        newestFirst: false,
        after,
        maxMatches: MAX_LIMIT,
        maxScanned: SCAN_STEP
      })
      for (const line of await this.#readLinesAt(matches.map((match) => match.place))) yield `${line}\n`
      after = next
      await nextTurn()
    } while (after)
  }

  /** Finishes what is pending. The caller bounds it. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#running
    await this.#index.close()
  }

  async *#exportAll(): AsyncGenerator<string> {
    const { segment: lastSegment, bytes } = this.#durable
    for (const segment of await listSegments(this.#dir)) {
      if (segment.number > lastSegment) return
      const to = segment.number === lastSegment ? bytes : undefined
      for await (const lines of readLines(segment.path, 0, to)) {
        for (const line of lines) yield `${line.bytes.toString()}\n`
      }
    }
  }

  async #readAll(places: PlacedRecord['place'][]): Promise<AuditRecord[]> {
    return (await this.#readLinesAt(places)).map((line) => JSON.parse(line))
  }

  async #readLinesAt(places: PlacedRecord['place'][]): Promise<string[]> {
    const files = new Map<number, Awaited<ReturnType<typeof open>>>()
    const lines: string[] = []
    try {
      for (const { segment, offset, length } of places) {
        const { name, path } = segmentAt(this.#dir, segment)
        const file = files.get(segment) ?? (await open(path, 'r'))
        files.set(segment, file)
        const bytes = Buffer.alloc(length)
        await file.read(bytes, 0, length, offset)
        const read = readRecord(bytes)
        if (!read || read.computed !== read.record.hash) {
          throw new AuditDamaged(this.#dir, `${name} has no sound record at byte ${offset}`)
        }
        lines.push(bytes.toString())
      }
    } finally {
      for (const file of files.values()) await file.close()
    }
    return lines
  }

  async #caughtUp(): Promise<void> {
    this.#start()
    await this.#running
    if (this.#failure) throw new StoreUnavailable(`the audit index cannot be written (${String(this.#failure)})`)
  }

  #start(): void {
    if (!this.#closed && (this.#behind || this.#pending.length > 0)) this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    try {
      // A turn later, so that appends under load share a transaction of the index.
      await nextTurn()
      while (this.#behind || this.#pending.length > 0) {
        if (!this.#behind) await this.#index.add(this.#pending.splice(0, MAX_ADD))
        else if (this.#closed) break
        else await this.#catchUp()
      }
      this.#failure = undefined
    } catch (err) {
      this.#behind = true
      this.#failure = err
      this.#onWarning('the audit index does not follow; it is tried again with the next record or query', err)
    } finally {
      this.#running = undefined
    }
  }

  /** Reads the files from the index's position on, or from the start when that place holds another record. */
  async #catchUp(): Promise<void> {
    if (this.#index.position && !(await this.#isPositionSound())) await this.#index.clear()
    for (const segment of await listSegments(this.#dir)) {
      const { position } = this.#index
      if (position && segment.number < position.segment) continue
      const from = position?.segment === segment.number ? position.offset + position.length + 1 : 0
      const durable = this.#durable
      if (segment.number > durable.segment) break
      const to = segment.number === durable.segment ? durable.bytes : undefined
      for await (const lines of readLines(segment.path, from, to)) {
        const placed = lines.flatMap(({ bytes, offset }) => {
          const read = readRecord(bytes)
          const place = { segment: segment.number, offset, length: bytes.length }
          return read && read.computed === read.record.hash ? [{ record: read.record, place }] : []
        })
        await this.#index.add(placed)
        if (this.#closed) return
      }
      if (segment.number === durable.segment && durable === this.#durable) this.#behind = false
    }
    if (this.#durable.seq === 0) this.#behind = false
    if (!this.#behind) await this.#index.markProven()
  }

  async #isPositionSound(): Promise<boolean> {
    const { position } = this.#index
    if (!position || position.seq > this.#durable.seq) return false
    try {
      const [line] = await this.#readLinesAt([position])
      return line !== undefined && JSON.parse(line).hash === position.hash
    } catch {
      return false
    }
  }
}

function checkTimes(filter: AuditFilter): void {
  for (const name of ['since', 'until'] as const) {
    const text = filter[name]
    if (text !== undefined && Number.isNaN(Date.parse(text))) {
      throw new ValidationFailed(`"${name}" must be an ISO 8601 date and time`)
    }
  }
}

function encodeCursor({ atMs, seq }: Cursor): string {
  return Buffer.from(`${atMs}.${seq}`).toString('base64url')
}

function decodeCursor(text: string): Cursor {
  const match = /^(\d{1,16})\.(\d{1,16})$/.exec(Buffer.from(text, 'base64url').toString())
  if (!match) throw new ValidationFailed('"cursor" must be the nextCursor of a page before')
  return { atMs: Number(match[1]), seq: Number(match[2]) }
}
