import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { ZipFile } from 'yazl'
import type { Directory } from './directory.ts'
import { systemError, tooLarge } from './file-errors.ts'
import { FileRange } from './file-range.ts'
import { type TreeEntry, TreeWalk } from './tree-walk.ts'
import { type WorkspaceRoot, withPlace } from './walk.ts'

const MAX_DEPTH = 64
const MAX_ENTRIES = 20_000
const MAX_BYTES = 2 * 1024 * 1024 * 1024

export interface Archive {
  /** Of the directory; empty for the workspace itself. */
  name: string
  stream: Readable
  /** Settles, always well, when nothing of it is open any more. */
  closed: Promise<void>
}

/**
 * A directory as a zip, made as fast as it is taken: its directories and regular files; links and devices are left out.
 * Rejects as WorkspaceFiles does, and with FileTooLarge before anything is read; a tree that grows beyond the bounds
 * meanwhile destroys the stream.
 */
export async function openArchive(root: WorkspaceRoot, path: string): Promise<Archive> {
  const base = await withPlace(root, path, { followsLast: true }, async ({ directory, name, stat }) => {
    if (stat === undefined) throw systemError('ENOENT')
    if (!stat.isDirectory()) throw systemError('ENOTDIR')
    return directory.openDirectory(name)
  })
  try {
    await survey(base)
  } catch (error) {
    await base.close()
    throw error
  }
  const filler = new Filler(base)
  return { name: base.names.findLast((name) => name !== '.') ?? '', stream: filler.output, closed: filler.run() }
}

/** Refuses what is too much while there can still be a plain answer. */
async function survey(base: Directory): Promise<void> {
  const walk = new TreeWalk(MAX_ENTRIES, MAX_DEPTH)
  let bytes = 0
  for await (const { directory, stat } of walk.entries(base)) {
    if (stat.isFile()) bytes += stat.size
    refuseMore(bytes)
    if (stat.isDirectory() && depthOf(directory, base) >= MAX_DEPTH) throw systemError('ENAMETOOLONG')
  }
  if (walk.isTruncated) throw tooLarge(`an archive has at most ${MAX_ENTRIES} entries; take parts of the directory`)
}

class Filler {
  readonly output: Readable
  readonly #base: Directory
  readonly #zip = new ZipFile()
  #current: FileRange | undefined
  #bytes = 0

  constructor(base: Directory) {
    this.#base = base
    this.output = this.#zip.outputStream as Readable
    // The library pipes, and a pipe neither hears of the other end's close nor tells it.
    this.output.once('close', () => this.#current?.destroy())
    this.#zip.on('error', (error: Error) => this.output.destroy(error))
  }

  async run(): Promise<void> {
    try {
      for await (const entry of new TreeWalk(MAX_ENTRIES, MAX_DEPTH).entries(this.#base)) {
        if (this.output.destroyed) return
        await this.#add(entry)
      }
      this.#zip.end()
    } catch (error) {
      this.output.destroy(error as Error)
    } finally {
      await this.#base.close()
    }
  }

  async #add({ directory, name, stat }: TreeEntry): Promise<void> {
    const path = pathIn([...directory.names, name].slice(this.#base.names.length))
    if (stat.isDirectory()) this.#zip.addEmptyDirectory(path, { mtime: stat.mtime, mode: stat.mode })
    else if (stat.isFile()) await this.#addFile(directory, name, path)
  }

  async #addFile(directory: Directory, name: string, path: string): Promise<void> {
    // By now it may be gone, or a link; or the gateway may not read it.
    const file = await directory.openFile(name).catch(() => undefined)
    if (file === undefined) return
    const stat = await file.stat()
    this.#bytes += stat.isFile() ? stat.size : 0
    const stream = new FileRange(file, { start: 0, end: stat.size, mayEndEarly: true })
    this.#current = stream
    const closed = once(stream, 'close')
    if (this.output.destroyed || !stat.isFile()) stream.destroy()
    else {
      refuseMore(this.#bytes)
      this.#zip.addReadStream(stream, path, { mtime: stat.mtime, mode: stat.mode })
    }
    await closed
  }
}

function refuseMore(bytes: number): void {
  if (bytes > MAX_BYTES) throw tooLarge(`an archive has at most ${MAX_BYTES} bytes; take parts of the directory`)
}

function depthOf(directory: Directory, base: Directory): number {
  return directory.names.length - base.names.length + 1
}

/** Names that other systems would take for a way out of the directory that the archive is unpacked into are changed. */
function pathIn(names: readonly string[]): string {
  return names
    .map((name) => name.replaceAll('\\', '_'))
    .join('/')
    .replace(/^([A-Za-z]):/, '$1_')
}
