import { mkdir } from 'node:fs/promises'
import { open, type RootDatabase } from 'lmdb'
import { StoreUnavailable } from '../../errors.ts'
import { assertLmdbFile } from './lmdb-file.ts'

interface CommitFailure {
  commitError?: Promise<unknown>
}

interface MaybeCoded extends Error {
  code?: unknown
}

/**
 * One embedded LMDB environment, of text by text key (at most 1,900 bytes); several processes of one machine may share
 * the directory. Every failure of LMDB is a StoreUnavailable that names the directory; coded errors that an operation
 * throws stay what they are.
 */
export class LmdbEnvironment {
  readonly #db: RootDatabase<string, string>
  readonly #dir: string
  #closing: Promise<void> | undefined

  private constructor(db: RootDatabase<string, string>, dir: string) {
    this.#db = db
    this.#dir = dir
  }

  /** Opens or creates the environment in `dir` (made with mode 0700; a local disk, LMDB maps it). */
  static async open(dir: string): Promise<LmdbEnvironment> {
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      await assertLmdbFile(dir)
      const db = open<string, string>({
        path: dir,
        encoding: 'string',
        // A dot in the name (".cloud-codex") would make lmdb take the directory for a file.
        noSubdir: false,
        // With overlapping syncs a write resolves before it is on the disk.
        overlappingSync: false,
        // With batches per event turn lmdb keeps a promise that nobody can hear: a full disk would end the process.
        eventTurnBatching: false
      })
      return new LmdbEnvironment(db, dir)
    } catch (error) {
      throw storeFailure(dir, error)
    }
  }

  read<T>(operation: (db: RootDatabase<string, string>) => T): T {
    // lmdb reads unmapped memory after a close: the check keeps a late caller from ending the process.
    if (this.#closing !== undefined) throw new StoreUnavailable(`${this.#dir} is closed`)
    try {
      return operation(this.#db)
    } catch (error) {
      throw storeFailure(this.#dir, error)
    }
  }

  /** Resolves with what `operation` resolves with, once it is on the disk. */
  async write<T>(operation: (db: RootDatabase<string, string>) => Promise<T>): Promise<T> {
    try {
      return await this.read(operation)
    } catch (error) {
      throw storeFailure(this.#dir, await reasonOf(error))
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

/** What `error` is to whoever uses the store in `dir`. */
export function storeFailure(dir: string, error: unknown): Error {
  if (error instanceof Error && String((error as MaybeCoded).code).startsWith('CC_')) return error
  return new StoreUnavailable(`${dir}: ${error instanceof Error ? error.message : String(error)}`)
}
