import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { Directory } from './directory.ts'
import { systemError } from './file-errors.ts'
import type { Place } from './walk.ts'

const NEW_FILE_MODE = 0o666
const MODE_BITS = 0o777
const PIECE_BYTES = 1024 * 1024
const DRAFT = /^\.cloud-codex-[0-9a-f-]{36}$/

/** Whether a file of this name is one that {@link putFile} has not put in its place yet. */
export function isDraft(name: string): boolean {
  return DRAFT.test(name)
}

/**
 * Puts a file in this place, whole or not at all: it is written under a name of its own first. What else is linked to
 * an older file of that name stays as it is.
 *
 * @param mode of the new file; undefined: that of the one it replaces
 */
export async function putFile(
  { directory, name, stat }: Place,
  write: (file: FileHandle) => Promise<void>,
  mode = stat === undefined ? undefined : stat.mode & MODE_BITS
): Promise<void> {
  if (stat?.isDirectory() === true) throw systemError('EISDIR')
  const draft = `.cloud-codex-${randomUUID()}`
  const file = await directory.createFile(draft, NEW_FILE_MODE)
  try {
    try {
      await write(file)
      // In the file's creation the umask would take bits away.
      if (mode !== undefined) await file.chmod(mode)
    } finally {
      await file.close()
    }
    await directory.rename(draft, name)
  } catch (error) {
    await directory.removeFile(draft).catch(() => {})
    throw error
  }
}

/** Reads up to `limit` bytes of a file, in pieces; returns how many. A file that grows meanwhile ends there, too. */
export async function readPieces(
  file: FileHandle,
  limit: number,
  onPiece: (piece: Buffer) => Promise<void> | void
): Promise<number> {
  let position = 0
  while (position < limit) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, limit - position))
    const { bytesRead } = await file.read(piece, 0, piece.length, position)
    if (bytesRead === 0) break
    await onPiece(piece.subarray(0, bytesRead))
    position += bytesRead
  }
  return position
}

/** The stat of an open file; rejects with `refusal` for anything but a regular file. */
export async function regularFile(file: FileHandle, refusal: () => Error): Promise<Stats> {
  const stat = await file.stat()
  if (!stat.isFile()) throw refusal()
  return stat
}

/** Makes a directory where there is none, and opens it. */
export async function ensureDirectory(directory: Directory, name: string, mode: number): Promise<Directory> {
  await directory.makeDirectory(name, mode).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  return directory.openDirectory(name)
}
