import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a directory (0700) and its parents where they are missing. Rejects as mkdir does. Node's own recursive mkdir
 * never ends where the file system makes no directories, as in /proc.
 */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await makeOne(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error
    await makeDirectory(dirname(path))
    await makeOne(path)
  }
}

async function makeOne(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch(async (error: NodeJS.ErrnoException) => {
    // Made meanwhile, or a link to a directory; anything else fails again, with its own message.
    if (error.code === 'EEXIST') await mkdir(path, { recursive: true })
    else throw error
  })
}
