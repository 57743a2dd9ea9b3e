import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { MAX_LINE_BYTES } from './record.ts'

const SEGMENT_NAME = /^audit-(\d{6,})\.jsonl$/
const CHUNK_BYTES = 256 * 1024

export interface Segment {
  /** 1, 2, 3 … in the order of the chain. */
  number: number
  name: string
  path: string
}

export interface RawLine {
  /** Without the line feed; a view that is valid until the next batch is asked for. */
  bytes: Buffer
  /** Of the first byte, in the file. */
  offset: number
  /** False for bytes at the end of the file that no line feed closes. */
  complete: boolean
}

export function segmentAt(dir: string, number: number): Segment {
  const name = `audit-${String(number).padStart(6, '0')}.jsonl`
  return { number, name, path: join(dir, name) }
}

/** The segments of a log in the order of the chain; none when the directory is not there. */
export async function listSegments(dir: string): Promise<Segment[]> {
  const names = await readdir(dir).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return []
    throw err
  })
  const numbers = names.flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? []).map(Number)
  return numbers.sort((a, b) => a - b).map((number) => segmentAt(dir, number))
}

/**
 * The lines of a file from byte `from` (a line's start) to byte `to`, in batches, with bounded memory: of a line longer
 * than 1 MiB, which no writer makes, only the first part comes.
 */
export async function* readLines(path: string, from = 0, to = Number.POSITIVE_INFINITY): AsyncGenerator<RawLine[]> {
  const file = await open(path, 'r')
  try {
    let rest: Buffer = Buffer.alloc(0)
    let offset = from
    let position = from
    let skipping = false
    while (position < to) {
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
      const { bytesRead } = await file.read(chunk, 0, Math.min(CHUNK_BYTES, to - position), position)
      if (bytesRead === 0) break
      position += bytesRead
      const data =
        rest.length === 0 ? chunk.subarray(0, bytesRead) : Buffer.concat([rest, chunk.subarray(0, bytesRead)])
      const lines: RawLine[] = []
      let start = 0
      for (let end = data.indexOf(10); end !== -1; end = data.indexOf(10, start)) {
        if (!skipping) lines.push({ bytes: data.subarray(start, end), offset: offset + start, complete: true })
        skipping = false
        start = end + 1
      }
      rest = data.subarray(start)
      offset += start
      if (skipping || rest.length > MAX_LINE_BYTES) {
        if (!skipping) lines.push({ bytes: rest, offset, complete: true })
        offset += rest.length
        rest = Buffer.alloc(0)
        skipping = true
      }
      if (lines.length > 0) yield lines
    }
    if (rest.length > 0) yield [{ bytes: rest, offset, complete: false }]
  } finally {
    await file.close()
  }
}

/** Makes a created, renamed or removed name durable. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
