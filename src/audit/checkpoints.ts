import { createHmac, timingSafeEqual } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalJson } from './canonical.ts'
import type { Head } from './record.ts'
import { syncDirectory } from './segments.ts'

const CHECKPOINTS_NAME = 'checkpoints.jsonl'
const MAX_CHECKPOINT_BYTES = 4096

/** A signature over a head; through `hash` it covers every record up to `seq`. */
export interface Checkpoint extends Head {
  v: 1
  /** Names the key without telling it. */
  kid: string
  /** ISO 8601. */
  at: string
  /** The first record that no earlier checkpoint covers; above 1 in the first line when signing began late. */
  from: number
  /** `mac` of the checkpoint before, null in the first: one taken out of the middle shows. */
  prev: string | null
  /** HMAC-SHA-256 over the canonical JSON of the rest. */
  mac: string
}

export function checkpointsPath(dir: string): string {
  return join(dir, CHECKPOINTS_NAME)
}

export function keyId(key: string): string {
  return createHmac('sha256', key).update('cloud-codex audit key id').digest('hex').slice(0, 8)
}

function macOf(body: Omit<Checkpoint, 'mac'>, key: string): string {
  return createHmac('sha256', key).update(canonicalJson(body)).digest('hex')
}

export function parseCheckpoint(line: string): Checkpoint | undefined {
  try {
    const found: Partial<Checkpoint> = JSON.parse(line)
    const fits = Number.isSafeInteger(found.seq) && typeof found.hash === 'string' && typeof found.mac === 'string'
    return fits ? (found as Checkpoint) : undefined
  } catch {
    return undefined
  }
}

/** Whether `key` signed this checkpoint as it stands. */
export function isSignedBy(checkpoint: Checkpoint, key: string): boolean {
  const { mac, ...body } = checkpoint
  const expected = Buffer.from(macOf(body, key))
  const found = Buffer.from(mac)
  return expected.length === found.length && timingSafeEqual(expected, found)
}

/** Appends signed checkpoints, one write at a time; a write that fails is tried again with the next. */
export class CheckpointWriter {
  readonly #file: FileHandle
  readonly #key: string
  #size: number
  #last: Checkpoint | undefined
  #first: number

  private constructor(file: FileHandle, key: string, size: number, last: Checkpoint | undefined) {
    this.#file = file
    this.#key = key
    this.#size = size
    this.#last = last
    this.#first = (last?.seq ?? 0) + 1
  }

  /** Opens or makes the file and cuts an unfinished last line. */
  static async open(dir: string, key: string): Promise<CheckpointWriter> {
    const file = await open(checkpointsPath(dir), 'a+', 0o600)
    await syncDirectory(dir)
    const { size } = await file.stat()
    const tail = Buffer.alloc(Math.min(size, MAX_CHECKPOINT_BYTES))
    await file.read(tail, 0, tail.length, size - tail.length)
    const end = tail.lastIndexOf(10) + 1
    const whole = size - tail.length + end
    if (whole < size) await file.truncate(whole)
    const lines = tail.subarray(0, end).toString().trimEnd().split('\n')
    return new CheckpointWriter(file, key, whole, parseCheckpoint(lines.at(-1) ?? ''))
  }

  /** The newest head that this key has signed: the log must reach it. */
  get signedHead(): Head | undefined {
    if (!this.#last || !isSignedBy(this.#last, this.#key)) return undefined
    return { seq: this.#last.seq, hash: this.#last.hash }
  }

  /** True when the log has no checkpoint at all: what it holds by now was never signed. */
  get isNew(): boolean {
    return this.#last === undefined
  }

  /** The first checkpoint will say that it vouches for what comes after `seq` only. */
  startAfter(seq: number): void {
    this.#first = seq + 1
  }

  async write(head: Head, atMs: number): Promise<void> {
    if (head.seq < this.#first) return
    const body: Omit<Checkpoint, 'mac'> = {
      v: 1,
      kid: keyId(this.#key),
      at: new Date(atMs).toISOString(),
      from: this.#first,
      seq: head.seq,
      hash: head.hash,
      prev: this.#last?.mac ?? null
    }
    const checkpoint = { ...body, mac: macOf(body, this.#key) }
    const line = Buffer.from(`${canonicalJson(checkpoint)}\n`)
    // The rest of a failed write would make one unreadable line of two.
    if ((await this.#file.stat()).size > this.#size) await this.#file.truncate(this.#size)
    await this.#file.appendFile(line)
    await this.#file.datasync()
    this.#size += line.length
    this.#last = checkpoint
    this.#first = head.seq + 1
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

export interface CheckpointScheduleOptions {
  everyRecords: number
  intervalMs: number
  now: () => number
  onError: (err: unknown) => void
}

/**
 * Signs the newest head every so many records, and some time after the first unsigned one; the very first record at
 * once, because a log without any checkpoint looks like one whose checkpoints were removed.
 */
export class CheckpointSchedule {
  readonly #writer: CheckpointWriter
  readonly #options: CheckpointScheduleOptions
  #head: Head | undefined
  #signedSeq = 0
  #unsigned = 0
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #closed = false

  constructor(writer: CheckpointWriter, options: CheckpointScheduleOptions) {
    this.#writer = writer
    this.#options = options
  }

  /** Takes note of `count` more durable records that end at `head`. */
  advance(head: Head, count: number): void {
    this.#head = head
    this.#unsigned += count
    if (this.#writer.isNew || this.#unsigned >= this.#options.everyRecords) this.#running ??= this.#sign(head)
    else this.#arm()
  }

  /** Signs what is unsigned and closes the file. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#running
    if (this.#head) await this.#sign(this.#head)
    await this.#writer.close()
  }

  #arm(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      if (this.#head) this.#running ??= this.#sign(this.#head)
    }, this.#options.intervalMs)
  }

  async #sign(head: Head): Promise<void> {
    this.#unsigned = 0
    try {
      await this.#writer.write(head, this.#options.now())
      this.#signedSeq = head.seq
    } catch (err) {
      this.#options.onError(err)
    }
    this.#running = undefined
    if (!this.#closed && (this.#head?.seq ?? 0) > this.#signedSeq) this.#arm()
  }
}
