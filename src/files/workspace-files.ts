import type { Dirent, Stats } from 'node:fs'
import { OutsideWorkspace } from '../../errors.ts'
import { MAX_FILE_BYTES } from '../../schemas/methods/files.ts'
import type { JsonObject } from '../json.ts'
import { putFile, readPieces, regularFile } from './changes.ts'
import { TreeCopy } from './copy-tree.ts'
import type { Directory } from './directory.ts'
import { refusal, systemError, tooLarge } from './file-errors.ts'
import { refuseProtected } from './protected-names.ts'
import { removeTree } from './remove-tree.ts'
import { type Place, type WorkspaceRoot, withPlace } from './walk.ts'

const MAX_ENTRIES = 10_000
const NEW_DIRECTORY_MODE = 0o777
const FOLLOW = { followsLast: true }
const STAY = { followsLast: false }

/**
 * The files of one workspace, in the shapes and with the refusals of codex's own `fs/*` methods (0.169). Paths are as
 * clients write them. Nothing outside the workspace is read or written, whatever symlinks say; everything rejects with
 * OutsideWorkspace, FileProtected, or errors for toFileError.
 */
export class WorkspaceFiles {
  readonly #root: WorkspaceRoot

  constructor(root: WorkspaceRoot) {
    this.#root = root
  }

  /** `{dataBase64}`, of at most MAX_FILE_BYTES. */
  readFile(path: string): Promise<JsonObject> {
    return withPlace(this.#root, path, FOLLOW, async (place) => {
      const notAFile = () => refusal(`path \`${path}\` is not a file`)
      if (!existing(place).isFile()) throw notAFile()
      const file = await place.directory.openFile(place.name)
      try {
        // Asked again: by now it may be another one.
        const { size } = await regularFile(file, notAFile)
        if (size > MAX_FILE_BYTES) throw tooLarge(`file is too large to read: limit is ${MAX_FILE_BYTES} bytes`)
        const pieces: Buffer[] = []
        await readPieces(file, size, (piece) => void pieces.push(piece))
        return { dataBase64: Buffer.concat(pieces).toString('base64') }
      } finally {
        await file.close()
      }
    })
  }

  /** In a directory that exists. */
  writeFile(path: string, dataBase64: string): Promise<JsonObject> {
    const content = decode(dataBase64)
    return withPlace(this.#root, path, FOLLOW, async (place) => {
      refuseProtected(place.directory, place.name)
      const { stat } = place
      if (stat !== undefined && !stat.isFile() && !stat.isDirectory()) throw refusal(`path \`${path}\` is not a file`)
      await putFile(place, (file) => file.writeFile(content))
      return {}
    })
  }

  /** `recursive`: with the missing ones above it, and content with one that is there. */
  createDirectory(path: string, recursive = true): Promise<JsonObject> {
    const options = recursive ? { followsLast: true, makesMissing: true } : STAY
    return withPlace(this.#root, path, options, async ({ directory, name, stat }) => {
      const isThere = recursive && stat?.isDirectory() === true
      if (stat !== undefined && !isThere) throw systemError('EEXIST')
      refuseProtected(directory, name)
      if (!isThere) await directory.makeDirectory(name, NEW_DIRECTORY_MODE)
      return {}
    })
  }

  getMetadata(path: string): Promise<JsonObject> {
    return withPlace(this.#root, path, STAY, async (place) => {
      const own = existing(place)
      const stat = own.isSymbolicLink() ? await this.#target(path) : own
      return {
        isDirectory: stat.isDirectory(),
        isFile: stat.isFile(),
        isSymlink: own.isSymbolicLink(),
        createdAtMs: Math.trunc(stat.birthtimeMs),
        modifiedAtMs: Math.trunc(stat.mtimeMs)
      }
    })
  }

  /** `{entries}`, at most MAX_ENTRIES; one that leads out of the workspace is neither a directory nor a file. */
  readDirectory(path: string): Promise<JsonObject> {
    return withPlace(this.#root, path, FOLLOW, async (place) => {
      if (!existing(place).isDirectory()) throw systemError('ENOTDIR')
      const directory = await place.directory.openDirectory(place.name)
      try {
        const entries = await directory.list(MAX_ENTRIES + 1)
        if (entries.length > MAX_ENTRIES) throw tooLarge(`directory has more than ${MAX_ENTRIES} entries`)
        const described: JsonObject[] = []
        for (const entry of entries) described.push(...(await this.#describe(directory, entry)))
        return { entries: described }
      } finally {
        await directory.close()
      }
    })
  }

  /** `force`: content with nothing there. */
  remove(path: string, recursive = true, force = true): Promise<JsonObject> {
    return withPlace(this.#root, path, STAY, async (place) => {
      const { directory, name, stat } = place
      if (name === '.') throw refusal('the workspace itself cannot be removed')
      refuseProtected(directory, name)
      if (stat === undefined) {
        if (!force) throw systemError('ENOENT')
      } else if (!stat.isDirectory()) await directory.removeFile(name)
      else if (recursive) await removeTree(directory, name)
      else await directory.removeDirectory(name)
      return {}
    }).catch((error: NodeJS.ErrnoException) => {
      // Somebody was faster, or the directory it would be in is missing.
      if (force && error.code === 'ENOENT') return {}
      throw error
    })
  }

  copy(sourcePath: string, destinationPath: string, recursive = false): Promise<JsonObject> {
    return withPlace(this.#root, sourcePath, STAY, async (from) => {
      if (existing(from).isDirectory() && !recursive) {
        throw refusal('fs/copy requires recursive: true when sourcePath is a directory')
      }
      return withPlace(this.#root, destinationPath, FOLLOW, async (to) => {
        await new TreeCopy().copy(from, to)
        return {}
      })
    })
  }

  #target(path: string): Promise<Stats> {
    return withPlace(this.#root, path, FOLLOW, async (place) => existing(place))
  }

  /** codex leaves out a link to nowhere. */
  async #describe(directory: Directory, entry: Dirent): Promise<JsonObject[]> {
    const fileName = entry.name
    if (!entry.isSymbolicLink()) return [{ fileName, isDirectory: entry.isDirectory(), isFile: entry.isFile() }]
    try {
      const stat = await this.#target([...directory.names, fileName].join('/'))
      return [{ fileName, isDirectory: stat.isDirectory(), isFile: stat.isFile() }]
    } catch (error) {
      return error instanceof OutsideWorkspace ? [{ fileName, isDirectory: false, isFile: false }] : []
    }
  }
}

function existing({ stat }: Place): Stats {
  if (stat === undefined) throw systemError('ENOENT')
  return stat
}

/** codex takes the standard alphabet with its padding, and nothing else. */
function decode(dataBase64: string): Buffer {
  const wrong = dataBase64.search(/[^A-Za-z0-9+/=]|=(?!=?$)/)
  const problem = wrong >= 0 ? `Invalid symbol ${dataBase64.charCodeAt(wrong)}, offset ${wrong}.` : 'Invalid padding'
  if (wrong >= 0 || dataBase64.length % 4 !== 0) {
    throw refusal(`fs/writeFile requires valid base64 dataBase64: ${problem}`)
  }
  return Buffer.from(dataBase64, 'base64')
}
