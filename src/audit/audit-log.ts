import { mkdir } from 'node:fs/promises'
import { AuditUnavailable } from '../../errors.ts'
import type { AuditEntry, AuditFilter, AuditPage, AuditQuery, AuditRecord } from '../../schemas/audit.ts'
import type { PlacedRecord } from './audit-index.ts'
import { type AuditLogOptions, DEFAULTS } from './audit-log-options.ts'
import { AuditReader } from './audit-reader.ts'
import { CheckpointSchedule, CheckpointWriter } from './checkpoints.ts'
import { DirectoryLock } from './directory-lock.ts'
import { FileHeadStore, HeadKeeper } from './head-store.ts'
import { note, type Opening, prepareOpening } from './opening.ts'
import { type Head, type PreparedEntry, prepareEntry, sealRecord } from './record.ts'
import { SegmentWriter } from './segment-writer.ts'
import { MAX_BATCH_BYTES } from './survey.ts'

interface Waiter {
  entry: PreparedEntry
  /** A note of the log itself: nobody waits for it. */
  isOwn?: boolean
  resolve: (record: AuditRecord) => void
  reject: (err: Error) => void
}

interface Failure {
  reason: string
  /** Monotonic clock. */
  atMs: number
  refused: number
}

interface Parts {
  opening: Opening
  lock: DirectoryLock
  writer: SegmentWriter
  reader: AuditReader
  heads: HeadKeeper
  checkpoints: CheckpointSchedule | undefined
}

/**
 * The audit log: hash-chained records in files of one directory, one writer. An append that has resolved is on the disk
 * and stays; one that has rejected is not in the chain (unless `close` gave up on the disk, when nobody can know).
 */
export class AuditLog {
  readonly #options: typeof DEFAULTS & AuditLogOptions
  readonly #now: () => number
  readonly #parts: Parts
  #head: Head
  #queue: Waiter[] = []
  #inFlight: Waiter[] = []
  #running: Promise<void> | undefined
  #failure: Failure | undefined
  #retry: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  private constructor(options: typeof DEFAULTS & AuditLogOptions, parts: Parts) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#parts = parts
    this.#head = parts.opening.head
  }

  /**
   * Opens or makes the log in `dir` (a local disk), recovers a torn tail and takes the directory's lock. Rejects with
   * AuditLocked while another process writes it, AuditDamaged when continuing would hide a loss.
   */
  static async open(dir: string, options: AuditLogOptions = {}): Promise<AuditLog> {
    const settings = { ...DEFAULTS, ...options }
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const lock = await DirectoryLock.acquire(dir)
    let log: AuditLog
    try {
      log = new AuditLog(settings, await openParts(dir, settings, lock))
    } catch (err) {
      await lock.release()
      throw err
    }
    try {
      for (const entry of log.#parts.opening.notes) await log.append(entry)
      return log
    } catch (err) {
      await log.close()
      throw err
    }
  }

  /** The last durable record. */
  get head(): Head {
    return this.#head
  }

  /** Why appends are refused at present; undefined while they are taken. */
  get unavailableReason(): string | undefined {
    return this.#closing ? 'it is closed' : this.#failure?.reason
  }

  /**
   * Adds one entry, redacted; resolves with the record once it is durable. Appends in flight share one write and one
   * sync, in the order of the calls. Rejects with AuditEntryInvalid, or AuditUnavailable when nothing was recorded.
   */
  async append(entry: AuditEntry): Promise<AuditRecord> {
    if (this.#closing) throw new AuditUnavailable('it is closed')
    const prepared = prepareEntry(entry)
    if (this.#failure && performance.now() - this.#failure.atMs < this.#options.retryDelayMs) {
      this.#failure.refused++
      throw new AuditUnavailable(this.#failure.reason)
    }
    if (this.#queue.length >= this.#options.maxWaiting) throw new AuditUnavailable('too many records wait for the disk')
    return new Promise((resolve, reject) => {
      this.#queue.push({ entry: prepared, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  /** A page of records, newest first; see {@link AuditReader.query}. */
  query(query: AuditQuery): Promise<AuditPage> {
    if (this.#closing) throw new AuditUnavailable('it is closed')
    return this.#parts.reader.query(query)
  }

  /** Lines of NDJSON, oldest first; see {@link AuditReader.exportNdjson}. */
  exportNdjson(filter: AuditFilter = {}): AsyncGenerator<string> {
    return this.#parts.reader.exportNdjson(filter)
  }

  /** Flushes, signs and releases the directory, within `closeTimeoutMs`; what the disk did not take by then is rejected. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** @param recovers whether the disk is tried even if nobody waits for it */
  async #run(recovers = false): Promise<void> {
    // One turn of promises later: appends made together share the first write.
    await Promise.resolve()
    for (let isDue = recovers; this.#queue.length > 0 || (isDue && this.#failure); isDue = false) {
      try {
        await this.#commit()
      } catch (err) {
        this.#refuseAll(err)
      }
    }
    this.#running = undefined
  }

  async #commit(): Promise<void> {
    const { writer } = this.#parts
    if (this.#failure) {
      await writer.repair()
      const { reason, refused } = this.#failure
      const entry = prepareEntry(note('writes-refused', `${refused} records were refused: ${reason}`))
      this.#queue.unshift({ entry, isOwn: true, resolve: () => {}, reject: () => {} })
    }
    const { waiters, records, lines, head } = this.#takeBatch()
    this.#inFlight = waiters
    const { segment, offset } = await writer.write(Buffer.concat(lines))
    this.#inFlight = []
    this.#failure = undefined
    this.#head = head
    for (const [index, waiter] of waiters.entries()) waiter.resolve(records[index] as AuditRecord)
    this.#tellOthers(records, lines, { segment, offset })
  }

  #takeBatch() {
    const atMs = this.#now()
    const records: AuditRecord[] = []
    const lines: Buffer[] = []
    let head = this.#head
    for (let bytes = 0; bytes < MAX_BATCH_BYTES && records.length < this.#queue.length; ) {
      const { record, line } = sealRecord((this.#queue[records.length] as Waiter).entry, head, atMs)
      records.push(record)
      lines.push(line)
      bytes += line.length
      head = { seq: record.seq, hash: record.hash }
    }
    return { waiters: this.#queue.splice(0, records.length), records, lines, head }
  }

  #tellOthers(records: AuditRecord[], lines: Buffer[], landing: { segment: number; offset: number }): void {
    const { writer, reader, heads, checkpoints } = this.#parts
    const placed: PlacedRecord[] = []
    let { offset } = landing
    for (const [index, line] of lines.entries()) {
      const place = { segment: landing.segment, offset, length: line.length - 1 }
      placed.push({ record: records[index] as AuditRecord, place })
      offset += line.length
    }
    reader.follow(placed, { seq: this.#head.seq, segment: writer.segment, bytes: writer.size })
    heads.keep(this.#head)
    checkpoints?.advance(this.#head, records.length)
  }

  #refuseAll(err: unknown): void {
    clearTimeout(this.#retry)
    const reason = err instanceof Error ? err.message : String(err)
    const waiters = [...this.#inFlight, ...this.#queue]
    this.#inFlight = []
    this.#queue = []
    const refused = (this.#failure?.refused ?? 0) + waiters.filter((waiter) => !waiter.isOwn).length
    this.#failure = { reason, atMs: performance.now(), refused }
    for (const waiter of waiters) waiter.reject(new AuditUnavailable(reason))
    // Nobody may come to try: a gateway that says it is not ready gets no new clients.
    if (!this.#closing) this.#retry = setTimeout(() => this.#recover(), this.#options.retryDelayMs).unref()
  }

  #recover(): void {
    this.#running ??= this.#run(true)
  }

  async #close(): Promise<void> {
    const { closeTimeoutMs } = this.#options
    clearTimeout(this.#retry)
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, closeTimeoutMs, 'late')
    })
    const finished = this.#finish()
    const ended = await Promise.race([finished, deadline])
    clearTimeout(timer)
    if (ended !== 'late') return
    finished.catch(() => {})
    this.#refuseAll(new Error(`the disk did not answer within ${closeTimeoutMs} ms of closing`))
  }

  async #finish(): Promise<void> {
    const { reader, heads, checkpoints, writer, lock } = this.#parts
    await this.#running
    try {
      await checkpoints?.close()
      await heads.flush()
      await reader.close()
      await writer.close()
    } finally {
      await lock.release()
    }
  }
}

async function openParts(dir: string, options: typeof DEFAULTS & AuditLogOptions, lock: DirectoryLock): Promise<Parts> {
  const checkpoints = options.key === undefined ? undefined : await CheckpointWriter.open(dir, options.key)
  try {
    return await openWith(checkpoints, dir, options, lock)
  } catch (err) {
    await checkpoints?.close()
    throw err
  }
}

async function openWith(
  checkpointWriter: CheckpointWriter | undefined,
  dir: string,
  options: typeof DEFAULTS & AuditLogOptions,
  lock: DirectoryLock
): Promise<Parts> {
  const { segmentBytes: maxBytes, acceptDamage, now = Date.now, onWarning = () => {} } = options
  const headStore = options.headStore ?? new FileHeadStore(dir)
  const keptHead = await headStore.get()
  const opening = await prepareOpening({ dir, keptHead, checkpoints: checkpointWriter, acceptDamage })
  const writer = await SegmentWriter.open({ dir, maxBytes, lock }, opening.segmentNumber, opening.segmentBytes)
  const durable = { seq: opening.head.seq, segment: opening.segmentNumber, bytes: opening.segmentBytes }
  const reader = await AuditReader.open({ dir, durable, onWarning })
  const heads = new HeadKeeper(headStore, (err) => onWarning('the head of the audit log was not kept', err))
  const checkpoints =
    checkpointWriter &&
    new CheckpointSchedule(checkpointWriter, {
      everyRecords: options.checkpointEvery,
      intervalMs: options.checkpointIntervalMs,
      now,
      onError: (err) => onWarning('the audit log was not signed; the next checkpoint covers it', err)
    })
  if (opening.head.seq > 0) {
    heads.keep(opening.head)
    checkpoints?.advance(opening.head, 0)
  }
  return { opening, lock, writer, reader, heads, checkpoints }
}
