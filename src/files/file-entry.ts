import type { Stats } from 'node:fs'
import type { FileEntry } from '../../schemas/files.ts'

/** What clients are told of a file, a directory, or whatever else has this path (relative to the workspace). */
export function describeEntry(path: string, stat: Stats): FileEntry {
  return { path, kind: kindOf(stat), bytes: stat.isFile() ? stat.size : 0, modifiedAt: stat.mtime.toISOString() }
}

/** Changes with the content: another file in its place has another inode, a written one another time or size. */
export function entityTag({ mtimeMs, size, ino }: Stats): string {
  return `"${[Math.round(mtimeMs * 1000), size, ino].map((part) => part.toString(36)).join('-')}"`
}

function kindOf(stat: Stats): FileEntry['kind'] {
  if (stat.isFile()) return 'file'
  if (stat.isDirectory()) return 'directory'
  return stat.isSymbolicLink() ? 'link' : 'other'
}
