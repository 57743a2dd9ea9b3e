import { constants, type Dirent, type FSWatcher, type Stats, watch } from 'node:fs'
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  opendir,
  readlink,
  rename,
  rmdir,
  symlink,
  unlink
} from 'node:fs/promises'
import { join } from 'node:path'

/** O_NONBLOCK: the opening of a fifo would hold a thread of the whole gateway for as long as nobody writes to it. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const HAS_PROC = process.platform === 'linux'

/**
 * An open directory. What it does is done to names directly in it, and none of it follows a symlink. On Linux each goes
 * through the open descriptor: whatever its path leads to by now, it is the directory that was opened. (Elsewhere by
 * path, which another program could redirect meanwhile.)
 */
export class Directory {
  readonly parent: Directory | undefined
  /** From the root, which has none. */
  readonly names: readonly string[]
  readonly #handle: FileHandle
  readonly #path: string

  private constructor(handle: FileHandle, path: string, parent?: Directory, name?: string) {
    this.#handle = handle
    this.#path = HAS_PROC ? `/proc/self/fd/${handle.fd}` : path
    this.parent = parent
    this.names = name === undefined ? [] : [...(parent?.names ?? []), name]
  }

  /** Rejects, as all here does, with the system's error. */
  static async openRoot(path: string): Promise<Directory> {
    return new Directory(await openDirectory(path), path)
  }

  async openDirectory(name: string): Promise<Directory> {
    const path = this.#at(name)
    return new Directory(await openDirectory(path), path, this, name)
  }

  /** For reading. It may be anything but a symlink: ask its stat() before its content. */
  openFile(name: string): Promise<FileHandle> {
    return open(this.#at(name), READ)
  }

  /** For writing; the name must be free. */
  createFile(name: string, mode: number): Promise<FileHandle> {
    return open(this.#at(name), CREATE, mode)
  }

  stat(): Promise<Stats> {
    return this.#handle.stat()
  }

  lstat(name: string): Promise<Stats> {
    return lstat(this.#at(name))
  }

  readLink(name: string): Promise<string> {
    return readlink(this.#at(name))
  }

  makeDirectory(name: string, mode: number): Promise<void> {
    return mkdir(this.#at(name), { mode })
  }

  makeLink(name: string, target: string): Promise<void> {
    return symlink(target, this.#at(name))
  }

  /** Over a file or a link of that name. */
  rename(from: string, to: string): Promise<void> {
    return rename(this.#at(from), this.#at(to))
  }

  removeDirectory(name: string): Promise<void> {
    return rmdir(this.#at(name))
  }

  removeFile(name: string): Promise<void> {
    return unlink(this.#at(name))
  }

  /** At most `limit` of its entries, in no order. */
  async list(limit: number): Promise<Dirent[]> {
    const entries: Dirent[] = []
    if (limit <= 0) return entries
    for await (const entry of await opendir(this.#at('.'), { bufferSize: 256 })) {
      entries.push(entry)
      if (entries.length === limit) break
    }
    return entries
  }

  /** Tells the names that change in it, also when it is closed here, or moved. */
  watch(onChange: (name: string) => void): FSWatcher {
    return watch(this.#at('.'), (_event, name) => {
      if (name !== null) onChange(name)
    })
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  #at(name: string): string {
    return HAS_PROC ? `${this.#path}/${name}` : join(this.#path, name)
  }
}

function openDirectory(path: string): Promise<FileHandle> {
  return open(path, READ | constants.O_DIRECTORY)
}
