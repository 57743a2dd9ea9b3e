import type { Finding, Findings, Place } from './findings.ts'
import { GENESIS_HASH, type Head, type ReadRecord } from './record.ts'

const MAX_GAPS = 1_000

interface Gap {
  from: number
  to: number
  finding: Finding
}

interface Link {
  seq: number
  /** As written and as computed: of a changed record either may be the one its follower knows. */
  hashes: string[]
}

/** Follows a chain line by line and says what does not fit, with memory that does not grow with the log. */
export class ChainCheck {
  readonly #findings: Findings
  #expected = 1
  /** Lines since the last sound record whose seq cannot be trusted. */
  #doubtful = 0
  #last: Link | undefined
  #gaps: Gap[] = []
  #head: Head | undefined

  constructor(findings: Findings) {
    this.#findings = findings
  }

  /** The last sound record in order. */
  get head(): Head | undefined {
    return this.#head
  }

  /** The seq that the next line should have. */
  get expected(): number {
    return this.#expected + this.#doubtful
  }

  /** Takes the next line; true when it holds a sound record that continues the order. */
  take(read: ReadRecord | undefined, place: Place): boolean {
    if (!read) {
      this.#findings.add(
        'unreadable',
        place,
        this.expected,
        `The line is not a record (record ${this.expected} belongs here)`
      )
      this.#doubt(undefined)
      return false
    }
    const { seq, prev, hash } = read.record
    if (read.computed !== hash) {
      this.#findings.add('changed', place, this.expected, `Record ${this.expected} was changed: its hash does not fit`)
      this.#doubt({ seq: this.expected, hashes: [hash, read.computed] })
      return false
    }
    if (seq < this.#expected) {
      this.#takeEarlier(seq, place)
      return false
    }
    if (seq > this.expected) this.#openGap(seq, place)
    else this.#checkLink(seq, prev, place)
    this.#expected = seq + 1
    this.#doubtful = 0
    this.#last = { seq, hashes: [hash] }
    this.#head = { seq, hash }
    return true
  }

  #doubt(link: Link | undefined): void {
    this.#doubtful++
    this.#last = link
  }

  #checkLink(seq: number, prev: string, place: Place): void {
    const known = seq === 1 ? [GENESIS_HASH] : this.#last?.seq === seq - 1 ? this.#last.hashes : undefined
    if (known && !known.includes(prev)) {
      this.#findings.add('broken-link', place, seq, `Record ${seq} does not continue the record before it`)
    }
  }

  #openGap(seq: number, place: Place): void {
    const from = this.expected
    const which = from === seq - 1 ? `Record ${from} is` : `Records ${from} to ${seq - 1} are`
    const kind = from === 1 ? 'missing-start' : 'missing'
    const finding = this.#findings.add(kind, place, from, `${which} missing before record ${seq}`)
    if (this.#gaps.length < MAX_GAPS) this.#gaps.push({ from, to: seq - 1, finding })
  }

  #takeEarlier(seq: number, place: Place): void {
    const gap = this.#gaps.find(({ from, to }) => seq >= from && seq <= to)
    if (!gap) {
      this.#findings.add('repeated', place, seq, `Record ${seq} stands here a second time`)
      return
    }
    this.#findings.add('out-of-order', place, seq, `Record ${seq} stands behind record ${this.#expected - 1}`)
    this.#findings.withdraw(gap.finding)
    this.#gaps.splice(this.#gaps.indexOf(gap), 1)
    for (const [from, to] of [
      [gap.from, seq - 1],
      [seq + 1, gap.to]
    ] as const) {
      if (from > to) continue
      const { kind, file, line } = gap.finding
      const message = `Records ${from} to ${to} are missing`
      this.#gaps.push({ from, to, finding: this.#findings.add(kind, { file, line }, from, message) })
    }
  }
}
