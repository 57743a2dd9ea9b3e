import type { Stats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { regularFile } from './changes.ts'
import { entityTag } from './file-entry.ts'
import { refusal, systemError } from './file-errors.ts'
import { FileRange } from './file-range.ts'
import { type WorkspaceRoot, withPlace } from './walk.ts'

/** A regular file of a workspace, open: whatever has its path by now, this is the one that was asked for. */
export class OpenFile {
  /** Where a link led: that file's name. */
  readonly name: string
  readonly bytes: number
  readonly entityTag: string
  readonly modifiedAt: Date
  readonly #file: FileHandle

  private constructor(file: FileHandle, name: string, stat: Stats) {
    this.#file = file
    this.name = name
    this.bytes = stat.size
    this.entityTag = entityTag(stat)
    this.modifiedAt = stat.mtime
  }

  /** Rejects as WorkspaceFiles does. */
  static open(root: WorkspaceRoot, path: string): Promise<OpenFile> {
    return withPlace(root, path, { followsLast: true }, async ({ directory, name, stat }) => {
      const notAFile = () => refusal(`path \`${path}\` is not a file`)
      if (stat === undefined) throw systemError('ENOENT')
      if (!stat.isFile()) throw notAFile()
      const file = await directory.openFile(name)
      try {
        // Asked again: by now it may be another one.
        return new OpenFile(file, name, await regularFile(file, notAFile))
      } catch (error) {
        await file.close()
        throw error
      }
    })
  }

  /** The bytes from `start` to before `end`. The file is closed with the stream. */
  stream(start: number, end: number): Readable {
    return new FileRange(this.#file, { start, end, mayEndEarly: false })
  }

  /** For one that is not streamed. */
  close(): Promise<void> {
    return this.#file.close()
  }
}
