import type { FileHandle } from 'node:fs/promises'
import { ensureDirectory, putFile, readPieces, regularFile } from './changes.ts'
import type { Directory } from './directory.ts'
import { refusal, systemError, tooLarge } from './file-errors.ts'
import { refuseProtected } from './protected-names.ts'
import type { Place } from './walk.ts'

const MAX_DEPTH = 64
const MAX_COPIED_ENTRIES = 20_000
const MAX_COPIED_BYTES = 1024 * 1024 * 1024
const MODE_BITS = 0o777
/** A copy that its owner may not enter could not be filled. */
const OWNER_BITS = 0o700

const ONLY_KNOWN_KINDS = 'fs/copy only supports regular files, directories, and symlinks'

/** One fs/copy; bounded in entries and bytes over the whole tree. */
export class TreeCopy {
  #entries = 0
  #bytes = 0

  /** Copies one entry of whatever kind; a directory with all that is in it, into one that is there or is made. */
  async copy(from: Place, to: Place, depth = 0): Promise<void> {
    refuseProtected(to.directory, to.name)
    if (++this.#entries > MAX_COPIED_ENTRIES) throw tooLarge(`fs/copy copies at most ${MAX_COPIED_ENTRIES} entries`)
    if (depth > MAX_DEPTH) throw systemError('ENAMETOOLONG')
    const { stat } = from
    if (stat?.isDirectory() === true) await this.#copyDirectory(from, to, depth)
    else if (stat?.isSymbolicLink() === true) await copyLink(from, to)
    else if (stat?.isFile() === true) await this.#copyFile(from, to)
    else throw refusal(ONLY_KNOWN_KINDS)
  }

  async #copyDirectory(from: Place, to: Place, depth: number): Promise<void> {
    const source = await from.directory.openDirectory(from.name)
    try {
      await refuseInside(source, to.directory)
      const target = await ensureDirectory(to.directory, to.name, ((from.stat?.mode ?? 0) & MODE_BITS) | OWNER_BITS)
      try {
        await refuseInside(source, target)
        await this.#copyEntries(source, target, depth)
      } finally {
        await target.close()
      }
    } finally {
      await source.close()
    }
  }

  async #copyEntries(source: Directory, target: Directory, depth: number): Promise<void> {
    const entries = await source.list(MAX_COPIED_ENTRIES - this.#entries + 1)
    for (const { name } of entries) {
      const stat = await statOf(source, name)
      // Gone since it was listed.
      if (stat === undefined) continue
      await this.copy(
        { directory: source, name, stat },
        { directory: target, name, stat: await statOf(target, name) },
        depth + 1
      )
    }
  }

  async #copyFile(from: Place, to: Place): Promise<void> {
    const source = await from.directory.openFile(from.name)
    try {
      const { size, mode } = await regularFile(source, () => refusal(ONLY_KNOWN_KINDS))
      this.#bytes += size
      if (this.#bytes > MAX_COPIED_BYTES) throw tooLarge(`fs/copy copies at most ${MAX_COPIED_BYTES} bytes`)
      const write = async (file: FileHandle) => {
        await readPieces(source, size, (piece) => file.writeFile(piece))
      }
      await putFile(to, write, mode & MODE_BITS)
    } finally {
      await source.close()
    }
  }
}

async function copyLink(from: Place, to: Place): Promise<void> {
  await to.directory.makeLink(to.name, await from.directory.readLink(from.name))
}

async function statOf(directory: Directory, name: string) {
  return directory.lstat(name).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}

/** A directory that is copied into itself would grow until the bounds stop it. */
async function refuseInside(source: Directory, target: Directory): Promise<void> {
  const { dev, ino } = await source.stat()
  for (let above: Directory | undefined = target; above !== undefined; above = above.parent) {
    const stat = await above.stat()
    if (stat.dev === dev && stat.ino === ino) {
      throw refusal('fs/copy cannot copy a directory to itself or one of its descendants')
    }
  }
}
