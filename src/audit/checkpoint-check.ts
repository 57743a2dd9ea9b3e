import { type Checkpoint, checkpointsPath, isSignedBy, keyId, parseCheckpoint } from './checkpoints.ts'
import type { Findings, Place } from './findings.ts'
import type { Head } from './record.ts'
import { readLines } from './segments.ts'

const FILE = 'checkpoints.jsonl'

/** Walks the checkpoints beside the records, in step with their seq, and compares what was signed with what is there. */
export class CheckpointCheck {
  readonly #findings: Findings
  readonly #keys: Map<string, string>
  readonly #source: AsyncGenerator<Checkpoint>
  #next: Checkpoint | undefined
  #newest: Head | undefined
  #agreedSeq = 0
  #rewrittenReported = false
  #unsignedUntil: number | undefined

  private constructor(dir: string, keys: readonly string[], findings: Findings) {
    this.#findings = findings
    this.#keys = new Map(keys.map((key) => [keyId(key), key]))
    this.#source = this.#read(dir)
  }

  /** With no key the signatures are not checked, only what they say. */
  static async open(dir: string, keys: readonly string[], findings: Findings): Promise<CheckpointCheck> {
    const check = new CheckpointCheck(dir, keys, findings)
    await check.#advance()
    return check
  }

  /** The newest head that a checkpoint names, once `finish` has run. */
  get newest(): Head | undefined {
    return this.#newest
  }

  /** Records up to here were there before signing began; undefined without any checkpoint. */
  get unsignedUntil(): number | undefined {
    return this.#unsignedUntil
  }

  /** True when the next checkpoint is for this record or an earlier one, so that `compare` has something to do. */
  isDue(seq: number): boolean {
    return this.#next !== undefined && this.#next.seq <= seq
  }

  async compare(record: Head, place: Place): Promise<void> {
    while (this.#next && this.#next.seq <= record.seq) {
      if (this.#next.seq === record.seq) this.#compareWith(this.#next, record, place)
      await this.#advance()
    }
  }

  /** Reads the checkpoints behind the last record. */
  async finish(): Promise<void> {
    while (this.#next) await this.#advance()
  }

  #compareWith(checkpoint: Checkpoint, record: Head, place: Place): void {
    if (checkpoint.hash === record.hash) {
      this.#agreedSeq = record.seq
    } else if (!this.#rewrittenReported) {
      // Every later checkpoint differs too: one finding, at the first.
      this.#rewrittenReported = true
      const range = `records ${this.#agreedSeq + 1} to ${record.seq}`
      const message = `Record ${record.seq} is not the one that was signed: the chain was rewritten somewhere in ${range}`
      this.#findings.add('rewritten', place, record.seq, message)
    }
  }

  async #advance(): Promise<void> {
    const { value, done } = await this.#source.next()
    this.#next = done ? undefined : value
    if (this.#next) this.#newest = { seq: this.#next.seq, hash: this.#next.hash }
  }

  async *#read(dir: string): AsyncGenerator<Checkpoint> {
    let line = 0
    let lastMac: string | null = null
    for await (const lines of linesOf(checkpointsPath(dir))) {
      for (const { bytes, complete } of lines) {
        if (!complete) continue
        line++
        const checkpoint = parseCheckpoint(bytes.toString())
        if (!checkpoint || !this.#isTrusted(checkpoint, line)) continue
        if (checkpoint.prev !== lastMac) {
          const message = `The checkpoint before that of record ${checkpoint.seq} is missing or was changed`
          this.#findings.add('checkpoint-missing', { file: FILE, line }, checkpoint.seq, message)
        }
        this.#unsignedUntil ??= checkpoint.from - 1
        lastMac = checkpoint.mac
        yield checkpoint
      }
    }
  }

  #isTrusted(checkpoint: Checkpoint, line: number): boolean {
    if (this.#keys.size === 0) return true
    const key = this.#keys.get(checkpoint.kid)
    const place = { file: FILE, line }
    const { seq } = checkpoint
    if (key === undefined) {
      this.#findings.add(
        'checkpoint-unknown-key',
        place,
        seq,
        `The checkpoint of record ${seq} is signed with another key`
      )
      return false
    }
    if (isSignedBy(checkpoint, key)) return true
    this.#findings.add('checkpoint-changed', place, seq, `The checkpoint of record ${seq} does not fit its signature`)
    return false
  }
}

async function* linesOf(path: string) {
  try {
    yield* readLines(path)
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ENOENT') throw err
  }
}
