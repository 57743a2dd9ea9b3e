import type { Stats } from 'node:fs'
import { isAbsolute, normalize, relative, sep } from 'node:path'
import { OutsideWorkspace } from '../../errors.ts'
import { Directory } from './directory.ts'
import { systemError } from './file-errors.ts'
import { refuseProtected } from './protected-names.ts'

/** As Linux has it. */
const MAX_LINKS = 40
/** Each directory on the way is held open: deeper than anybody's tree, and far from the limit of open files. */
const MAX_DEPTH = 64
const NEW_DIRECTORY_MODE = 0o777

/** The workspace's own directory, on the host and as codex and its clients see it. */
export interface WorkspaceRoot {
  hostPath: string
  viewPath: string
}

/** A name in an open directory; `.` for the directory itself. */
export interface Place {
  directory: Directory
  name: string
  /** What has this name, not followed; undefined when nothing has. */
  stat: Stats | undefined
}

export interface WalkOptions {
  /** Whether a symlink at the very end is followed; those before always are, as long as they stay inside. */
  followsLast: boolean
  /** Whether directories that are missing on the way are made. */
  makesMissing?: boolean
}

/**
 * Opens the way to a path one directory after the other and calls `use` with its end. The way is made of open
 * directories: a symlink is read and walked by the same rules, never followed by the system, so that one which is put
 * in place meanwhile leads nowhere. Rejects with OutsideWorkspace, and with the system's errors.
 */
export async function withPlace<T>(
  root: WorkspaceRoot,
  path: string,
  options: WalkOptions,
  use: (place: Place) => Promise<T>
): Promise<T> {
  const walk = new Walk(root, path, options)
  try {
    return await use(await walk.run())
  } finally {
    await walk.close()
  }
}

class Walk {
  readonly #root: WorkspaceRoot
  readonly #path: string
  readonly #options: WalkOptions
  /** The open directories from the root to here. */
  #way: Directory[] = []
  #links = 0

  constructor(root: WorkspaceRoot, path: string, options: WalkOptions) {
    this.#root = root
    this.#path = path
    this.#options = options
  }

  async run(): Promise<Place> {
    const names = this.#split(this.#path)
    this.#way.push(await Directory.openRoot(this.#root.hostPath))
    let place = await this.#here()
    while (names.length > 0) {
      const name = names.shift() as string
      const isLast = names.length === 0
      if (name === '..') {
        await this.#goUp()
        place = await this.#here()
        continue
      }
      const directory = this.#top()
      const stat = await directory.lstat(name).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' && (isLast || this.#options.makesMissing)) return undefined
        throw error
      })
      if (stat?.isSymbolicLink() === true && (!isLast || this.#options.followsLast)) {
        names.unshift(...(await this.#follow(directory, name)))
        place = await this.#here()
      } else if (isLast) {
        place = { directory, name, stat }
      } else {
        if (stat === undefined) await makeMissing(directory, name)
        await this.#enter(directory, name)
      }
    }
    return place
  }

  async close(): Promise<void> {
    for (const directory of this.#way.splice(0)) await directory.close()
  }

  /** The names of a path below the root. */
  #split(path: string): string[] {
    const inside = isAbsolute(path) ? relative(this.#root.viewPath, normalize(path)) : normalize(path)
    if (path.includes('\0') || isAbsolute(inside)) throw new OutsideWorkspace(this.#path)
    return splitNames(inside)
  }

  async #follow(directory: Directory, name: string): Promise<string[]> {
    if (++this.#links > MAX_LINKS) throw systemError('ELOOP')
    const target = await directory.readLink(name)
    // Not normalised: behind a link, `..` is the parent of where it led.
    if (!isAbsolute(target)) return splitNames(target)
    const { viewPath } = this.#root
    if (target !== viewPath && !target.startsWith(`${viewPath}${sep}`)) throw new OutsideWorkspace(this.#path)
    while (this.#way.length > 1) await this.#goUp()
    return splitNames(target.slice(viewPath.length))
  }

  async #enter(directory: Directory, name: string): Promise<void> {
    if (this.#way.length > MAX_DEPTH) throw systemError('ENAMETOOLONG')
    this.#way.push(await directory.openDirectory(name))
  }

  async #goUp(): Promise<void> {
    if (this.#way.length === 1) throw new OutsideWorkspace(this.#path)
    await this.#way.pop()?.close()
  }

  async #here(): Promise<Place> {
    const directory = this.#top()
    return { directory, name: '.', stat: await directory.stat() }
  }

  #top(): Directory {
    return this.#way[this.#way.length - 1] as Directory
  }
}

async function makeMissing(directory: Directory, name: string): Promise<void> {
  refuseProtected(directory, name)
  await directory.makeDirectory(name, NEW_DIRECTORY_MODE)
}

function splitNames(path: string): string[] {
  return path.split(sep).filter((name) => name !== '' && name !== '.')
}
