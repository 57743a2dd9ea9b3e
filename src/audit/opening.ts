import { access, open, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { AuditDamaged } from '../../errors.ts'
import type { AuditEntry } from '../../schemas/audit.ts'
import type { CheckpointWriter } from './checkpoints.ts'
import type { Head } from './record.ts'
import { type Segment, syncDirectory } from './segments.ts'
import { type Survey, surveyLog } from './survey.ts'

/** Where the next record goes, and what it and its followers must say about the opening. */
export interface Opening {
  head: Head
  /** The segment to continue, and its durable bytes. */
  segmentNumber: number
  segmentBytes: number
  notes: AuditEntry[]
}

export interface OpeningOptions {
  dir: string
  /** From the head store. */
  keptHead: Head | undefined
  checkpoints: CheckpointWriter | undefined
  acceptDamage: string | undefined
}

/** Makes the end of the log fit to continue. Rejects with AuditDamaged when that would hide something. */
export async function prepareOpening(options: OpeningOptions): Promise<Opening> {
  const { dir, keptHead, checkpoints, acceptDamage } = options
  const knownHeads = [keptHead, checkpoints?.signedHead].filter((head) => head !== undefined)
  const survey = await surveyLog(dir, knownHeads)
  const { segment, goodBytes } = survey
  let opening: Opening
  if (survey.damage !== undefined) {
    if (acceptDamage === undefined) throw new AuditDamaged(dir, survey.damage)
    opening = acceptedDamage(survey, knownHeads, acceptDamage)
  } else {
    opening = { head: survey.head, segmentNumber: segment?.number ?? 1, segmentBytes: goodBytes, notes: [] }
    if (segment) await recoverTail(dir, segment, survey, opening)
  }
  if (checkpoints?.isNew && opening.head.seq > 0) {
    checkpoints.startAfter(opening.head.seq)
    const message = `No checkpoint was found for records 1 to ${opening.head.seq}; signatures begin here`
    opening.notes.push(note('signing-begins', message))
  }
  return opening
}

export function note(event: string, message: string): AuditEntry {
  return { type: 'note', actor: { kind: 'system' }, event, message }
}

/** Goes on in a new segment, so that the damaged one stays as it was found. */
function acceptedDamage(survey: Survey, knownHeads: Head[], reason: string): Opening {
  const head = [survey.lastSound, ...knownHeads].reduce((best, next) => (next.seq > best.seq ? next : best))
  const message = `The log was damaged (${survey.damage}) and is continued after record ${head.seq}: ${reason}`
  const segmentNumber = (survey.segment?.number ?? 0) + 1
  return { head, segmentNumber, segmentBytes: 0, notes: [note('damage-accepted', message)] }
}

/** Keeps the torn bytes aside before they are cut. A crash in between is seen by the file that waits for its note. */
async function recoverTail(dir: string, segment: Segment, survey: Survey, opening: Opening): Promise<void> {
  const name = `torn-${String(survey.head.seq + 1).padStart(6, '0')}.bin`
  const { goodBytes, restBytes } = survey
  if (restBytes > 0) {
    await copyRange(segment.path, { from: goodBytes, length: restBytes }, join(dir, name))
    await syncDirectory(dir)
    await truncate(segment.path, goodBytes)
  } else if (!(await exists(join(dir, name)))) {
    return
  }
  const message = `An unfinished write was found behind record ${survey.head.seq} in ${segment.name}; its bytes are in ${name}`
  opening.notes.push(note('torn-tail', message))
}

async function copyRange(path: string, { from, length }: { from: number; length: number }, to: string): Promise<void> {
  const bytes = Buffer.alloc(length)
  const source = await open(path, 'r')
  try {
    await source.read(bytes, 0, length, from)
  } finally {
    await source.close()
  }
  const target = await open(to, 'w', 0o600)
  try {
    await target.writeFile(bytes)
    await target.sync()
  } finally {
    await target.close()
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false
  )
}
