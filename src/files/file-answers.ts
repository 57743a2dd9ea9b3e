import type { JsonObject } from '../json.ts'
import { toFileError } from './file-errors.ts'
import { searchFiles } from './file-search.ts'
import { type FileListener, listening } from './listener.ts'
import { SearchSessions } from './search-sessions.ts'
import { TurnStile } from './turn-stile.ts'
import type { WorkspaceRoot } from './walk.ts'
import { FileWatches } from './watches.ts'
import { WorkspaceFiles } from './workspace-files.ts'

/** Of one workspace: each holds open files and up to MAX_FILE_BYTES several times over. */
const MAX_AT_ONCE = 4

type Answer = (params: JsonObject, listener: FileListener | undefined) => Promise<JsonObject>

/** Answers the file methods of one workspace, in codex's shapes, from params that fit their schemas. */
export class FileAnswers {
  readonly #answers: ReadonlyMap<string, Answer>
  readonly #stile = new TurnStile(MAX_AT_ONCE)

  constructor(root: WorkspaceRoot) {
    const files = new WorkspaceFiles(root)
    this.#answers = new Map<string, Answer>([
      ['fs/readFile', ({ path }) => files.readFile(text(path))],
      ['fs/writeFile', ({ path, dataBase64 }) => files.writeFile(text(path), text(dataBase64))],
      ['fs/createDirectory', ({ path, recursive }) => files.createDirectory(text(path), flag(recursive))],
      ['fs/getMetadata', ({ path }) => files.getMetadata(text(path))],
      ['fs/readDirectory', ({ path }) => files.readDirectory(text(path))],
      ['fs/remove', ({ path, recursive, force }) => files.remove(text(path), flag(recursive), flag(force))],
      [
        'fs/copy',
        ({ sourcePath, destinationPath, recursive }) =>
          files.copy(text(sourcePath), text(destinationPath), recursive === true)
      ],
      ['fuzzyFileSearch', ({ query, roots }) => searchFiles(root, text(query), roots as string[])],
      ...watching(new FileWatches(root)),
      ...searching(new SearchSessions(root, this.#stile))
    ])
  }

  /**
   * The result, or undefined for a method that is not about files. Rejects with coded errors only.
   *
   * @param listener who is told of what comes later; without one nothing can be watched
   */
  async answer(method: string, params: JsonObject, listener?: FileListener): Promise<JsonObject | undefined> {
    const answer = this.#answers.get(method)
    if (answer === undefined) return undefined
    return this.#stile
      .pass(() => answer(params, listener))
      .catch((error) => {
        throw toFileError(error, method)
      })
  }
}

function watching(watches: FileWatches): [string, Answer][] {
  return [
    [
      'fs/watch',
      async ({ watchId, path }, listener) => watches.start(listening(listener, 'fs/watch'), text(watchId), text(path))
    ],
    ['fs/unwatch', async ({ watchId }, listener) => watches.stop(listening(listener, 'fs/unwatch'), text(watchId))]
  ]
}

function searching(sessions: SearchSessions): [string, Answer][] {
  const heard = (listener: FileListener | undefined) => listening(listener, 'fuzzyFileSearch/session*')
  return [
    [
      'fuzzyFileSearch/sessionStart',
      async ({ sessionId, roots }, listener) => sessions.start(heard(listener), text(sessionId), roots as string[])
    ],
    [
      'fuzzyFileSearch/sessionUpdate',
      async ({ sessionId, query }, listener) => sessions.update(heard(listener), text(sessionId), text(query))
    ],
    ['fuzzyFileSearch/sessionStop', async ({ sessionId }, listener) => sessions.stop(heard(listener), text(sessionId))]
  ]
}

function text(value: unknown): string {
  return String(value)
}

/** codex's default for these is true. */
function flag(value: unknown): boolean {
  return value !== false
}
