import { mkdir } from 'node:fs/promises'
import { type Key, open, type RootDatabase, type RootDatabaseOptions } from 'lmdb'
import { StoreUnavailable } from '../../errors.ts'
import { assertLmdbFile } from './lmdb-file.ts'

interface CommitFailure {
  commitError?: Promise<unknown>
}

interface MaybeCoded extends Error {
  code?: unknown
}

/**
 * One embedded LMDB environment, of text by text key (at most 1,900 bytes) unless opened otherwise; several processes of
 * one machine may share the directory. Every failure of LMDB is a StoreUnavailable that names the directory; coded errors
 * that an operation throws stay what they are.
 */
export class LmdbEnvironment<V = string, K extends Key = string> {
  readonly #db: RootDatabase<V, K>
  readonly #dir: string
  #closing: Promise<void> | undefined

  private constructor(db: RootDatabase<V, K>, dir: string) {
    this.#db = db
    this.#dir = dir
  }

  /** Opens or creates the environment in `dir` (made with mode 0700; a local disk, LMDB maps it). */
  static open(dir: string): Promise<LmdbEnvironment> {
    return LmdbEnvironment.#open<string, string>(dir, { encoding: 'string' })
  }

  /** The same for bytes by compound key, each entry with a version that a write can be made to depend on. */
  static openVersioned(dir: string): Promise<LmdbEnvironment<Buffer, Key[]>> {
    return LmdbEnvironment.#open<Buffer, Key[]>(dir, { encoding: 'binary', useVersions: true })
  }

  static async #open<V, K extends Key>(dir: string, options: RootDatabaseOptions): Promise<LmdbEnvironment<V, K>> {
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      await assertLmdbFile(dir)
      const db = open<V, K>({
        ...options,
        path: dir,
        // A dot in the name (".cloud-codex") would make lmdb take the directory for a file.
        noSubdir: false,
        // With overlapping syncs a write resolves before it is on the disk.
        overlappingSync: false,
        // With batches per event turn lmdb keeps a promise that nobody can hear: a full disk would end the process.
        eventTurnBatching: false
      })
      return new LmdbEnvironment<V, K>(db, dir)
    } catch (error) {
      throw unavailable(dir, error)
    }
  }

  read<T>(operation: (db: RootDatabase<V, K>) => T): T {
    // lmdb reads unmapped memory after a close: the check keeps a late caller from ending the process.
    if (this.#closing !== undefined) throw new StoreUnavailable(`${this.#dir} is closed`)
    try {
      return operation(this.#db)
    } catch (error) {
      throw unavailable(this.#dir, error)
    }
  }

  /** Resolves with what `operation` resolves with, once it is on the disk. */
  async write<T>(operation: (db: RootDatabase<V, K>) => Promise<T>): Promise<T> {
    try {
      return await this.read(operation)
    } catch (error) {
      throw unavailable(this.#dir, await reasonOf(error))
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#db.close()
    return this.#closing
  }
}

/** The error behind a failed commit. lmdb rejects a second promise with it, which ends the process when nobody listens. */
async function reasonOf(error: unknown): Promise<unknown> {
  const { commitError } = error as CommitFailure
  return commitError === undefined ? error : commitError.then(() => error).catch((reason: unknown) => reason)
}

function unavailable(dir: string, error: unknown): Error {
  if (error instanceof Error && String((error as MaybeCoded).code).startsWith('CC_')) return error
  return new StoreUnavailable(`${dir}: ${error instanceof Error ? error.message : String(error)}`)
}
