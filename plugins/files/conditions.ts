import type { IncomingHttpHeaders } from 'node:http'
import { FileChanged, RangeUnsatisfiable } from '../../errors.ts'

export interface ByteRange {
  start: number
  /** Behind the last byte. */
  end: number
}

/** Whether the client has this one already. */
export function isKnown(headers: IncomingHttpHeaders, entityTag: string): boolean {
  return matches(headers['if-none-match'], entityTag)
}

/** Throws FileChanged when what is there (undefined: nothing) is not what a writer expects. */
export function checkExpected(headers: IncomingHttpHeaders, entityTag: string | undefined): void {
  const { 'if-match': ifMatch, 'if-none-match': ifNoneMatch } = headers
  if (ifMatch !== undefined && !matches(ifMatch, entityTag)) throw new FileChanged('If-Match')
  if (matches(ifNoneMatch, entityTag)) throw new FileChanged('If-None-Match')
}

/**
 * The one range that is asked for, of a file of this size; undefined for the whole. Several at once, which a server may
 * ignore, are. Throws RangeUnsatisfiable.
 */
export function askedRange(headers: IncomingHttpHeaders, bytes: number, entityTag: string): ByteRange | undefined {
  const { range = '', 'if-range': ifRange } = headers
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(range) ?? []
  if ((first === '' && last === '') || (ifRange !== undefined && ifRange !== entityTag)) return undefined
  const start = first === '' ? Math.max(0, bytes - Number(last)) : Number(first)
  const end = first === '' || last === '' ? bytes : Math.min(bytes, Number(last) + 1)
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined
  if (start >= end) throw new RangeUnsatisfiable(bytes)
  return { start, end }
}

function matches(header: string | undefined, entityTag: string | undefined): boolean {
  if (header === undefined || entityTag === undefined) return false
  return header.trim() === '*' || header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === entityTag)
}
