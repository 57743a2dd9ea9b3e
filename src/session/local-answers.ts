import { InvalidMessage, withDetails } from '../../errors.ts'
import { standInFor } from '../codex/stand-ins.ts'
import { FileAnswers } from '../files/file-answers.ts'
import type { FileListener } from '../files/listener.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'
import type { JsonObject } from '../json.ts'

/** What the gateway answers itself, without codex: files of the workspace, and stand-ins for what codex may not tell. */
export class LocalAnswers {
  readonly #files: FileAnswers
  readonly #workspace: string
  readonly #isLoaded: (threadId: string) => boolean

  /**
   * @param directories on the host
   * @param view the same as codex sees them
   * @param isLoaded whether codex has a thread loaded
   */
  constructor(directories: UserDirectories, view: UserDirectories, isLoaded: (threadId: string) => boolean) {
    this.#workspace = view.workspace
    this.#isLoaded = isLoaded
    this.#files = new FileAnswers({ hostPath: directories.workspace, viewPath: view.workspace })
  }

  /** codex's shape of result for guarded params of a method that guardParams says is answered. Coded errors only. */
  async answer(method: string, params: JsonObject, listener?: FileListener): Promise<JsonObject> {
    if (method === 'thread/unsubscribe') return this.#unsubscribe(params)
    const result = standInFor(method, params, this.#workspace) ?? (await this.#files.answer(method, params, listener))
    // The handshake is the native door's, before there is anything to answer here.
    if (result === undefined)
      throw withDetails(new InvalidMessage('Already initialized'), { method, codexCode: -32600 })
    return result
  }

  /** codex would cut off all clients of the user: they share its one connection. */
  #unsubscribe({ threadId }: JsonObject): JsonObject {
    return { status: this.#isLoaded(String(threadId)) ? 'unsubscribed' : 'notLoaded' }
  }
}
