import type { Stats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { FileEntry } from '../../schemas/files.ts'
import { putFile } from './changes.ts'
import { describeEntry, entityTag } from './file-entry.ts'
import { refusal, systemError, tooLarge } from './file-errors.ts'
import { refuseProtected } from './protected-names.ts'
import { type Place, type WorkspaceRoot, withPlace } from './walk.ts'

export interface UploadOptions {
  maxBytes: number
  /** What the sender says it will be. */
  announcedBytes: number | undefined
  /** Throws when the file that is there (its tag), or that none is there, is not what the sender expects. */
  check(entityTag: string | undefined): void
}

export interface Uploaded {
  entry: FileEntry
  entityTag: string
  isNew: boolean
}

/**
 * Puts what `content` gives into a file, in a directory that exists: whole or, when anything fails, not at all. Rejects
 * as WorkspaceFiles does, with FileTooLarge, and with what `content` or `check` throws.
 */
export function upload(
  root: WorkspaceRoot,
  path: string,
  content: AsyncIterable<Uint8Array>,
  { maxBytes, announcedBytes, check }: UploadOptions
): Promise<Uploaded> {
  const tooMany = () => tooLarge(`file is too large: limit is ${maxBytes} bytes`)
  return withPlace(root, path, { followsLast: true }, async (place) => {
    refuseOthers(place, path)
    check(tagOf(place.stat))
    if (announcedBytes !== undefined && announcedBytes > maxBytes) throw tooMany()
    let written: Stats | undefined
    await putFile(place, async (file) => {
      await write(file, content, maxBytes, tooMany)
      written = await file.stat()
      // What takes long to come may find another file than it began with.
      check(tagOf(await place.directory.lstat(place.name).catch(() => undefined)))
    })
    const stat = written as Stats
    const names = [...place.directory.names, place.name]
    return {
      entry: describeEntry(names.join('/'), stat),
      entityTag: entityTag(stat),
      isNew: place.stat === undefined
    }
  })
}

function refuseOthers({ directory, name, stat }: Place, path: string): void {
  refuseProtected(directory, name)
  if (stat?.isDirectory() === true) throw systemError('EISDIR')
  if (stat !== undefined && !stat.isFile()) throw refusal(`path \`${path}\` is not a file`)
}

async function write(
  file: FileHandle,
  content: AsyncIterable<Uint8Array>,
  maxBytes: number,
  tooMany: () => Error
): Promise<void> {
  let bytes = 0
  for await (const piece of content) {
    bytes += piece.length
    if (bytes > maxBytes) throw tooMany()
    await file.writeFile(piece)
  }
}

function tagOf(stat: Stats | undefined): string | undefined {
  return stat?.isFile() === true ? entityTag(stat) : undefined
}
