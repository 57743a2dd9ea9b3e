/** What the verifier can find; docs and tests use these names. */
export type FindingKind =
  | 'unreadable'
  | 'changed'
  | 'missing-start'
  | 'missing'
  | 'missing-segment'
  | 'out-of-order'
  | 'repeated'
  | 'broken-link'
  | 'torn-tail'
  | 'cut-tail'
  | 'rewritten'
  | 'checkpoint-changed'
  | 'checkpoint-missing'
  | 'checkpoint-unknown-key'

export interface Place {
  /** File name inside the audit directory. */
  file: string
  /** From 1. */
  line: number
}

export interface Finding extends Place {
  kind: FindingKind
  /** The record at this place, or the one that should be there. */
  seq: number
  message: string
}

/** More findings than a person reads cost memory and tell nothing. */
const MAX_FINDINGS = 1_000

export class Findings {
  readonly list: Finding[] = []
  omitted = 0

  /** Returns the finding, for {@link withdraw}. */
  add(kind: FindingKind, place: Place, seq: number, message: string): Finding {
    const finding = { kind, file: place.file, line: place.line, seq, message }
    if (this.list.length < MAX_FINDINGS) this.list.push(finding)
    else this.omitted++
    return finding
  }

  withdraw(finding: Finding): void {
    const at = this.list.indexOf(finding)
    if (at !== -1) this.list.splice(at, 1)
    else this.omitted--
  }
}
