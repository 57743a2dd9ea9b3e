import type { Directory } from './directory.ts'
import { systemError } from './file-errors.ts'

const MAX_DEPTH = 64
/** So many names of one directory are in memory at a time. */
const BATCH = 1_000

/** Removes a directory and what is in it; symlinks go, what they lead to stays. */
export async function removeTree(directory: Directory, name: string, depth = 0): Promise<void> {
  if (depth > MAX_DEPTH) throw systemError('ENAMETOOLONG')
  const inner = await directory.openDirectory(name)
  try {
    for (;;) {
      const entries = await inner.list(BATCH)
      if (entries.length === 0) break
      for (const entry of entries) {
        if (entry.isDirectory()) await removeTree(inner, entry.name, depth + 1)
        else await inner.removeFile(entry.name)
      }
    }
  } finally {
    await inner.close()
  }
  await directory.removeDirectory(name)
}
