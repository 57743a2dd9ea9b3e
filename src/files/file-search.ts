import { setImmediate as nextLoop } from 'node:timers/promises'
import { OutsideWorkspace } from '../../errors.ts'
import type { JsonObject } from '../json.ts'
import { readPieces, regularFile } from './changes.ts'
import type { Directory } from './directory.ts'
import { refusal } from './file-errors.ts'
import { type FuzzyMatch, fuzzyMatcher } from './fuzzy-match.ts'
import { IgnoreRules } from './ignore-rules.ts'
import { type Place, type WorkspaceRoot, withPlace } from './walk.ts'

/** As codex: so many of the best. */
const MAX_RESULTS = 50
const MAX_SEEN = 20_000
const MAX_DEPTH = 64
const MAX_IGNORE_BYTES = 64 * 1024
/** So many entries are looked at before others get their turn. */
const ENTRIES_AT_ONCE = 200

/**
 * codex's fuzzyFileSearch over directories of the workspace: `{files}`, best first. Unlike codex's it does not enter
 * symlinks, which may lead anywhere. A root that is not there has nothing; what `.gitignore` files name is left out.
 * After MAX_SEEN entries the search ends with what it has.
 */
export async function searchFiles(workspace: WorkspaceRoot, query: string, roots: string[]): Promise<JsonObject> {
  const match = fuzzyMatcher(query)
  if (match === undefined) return { files: [] }
  const search = new Search(match)
  for (const root of roots) {
    await inRoot(workspace, root, async ({ directory, name, stat }) => {
      if (stat?.isDirectory() !== true) return
      await search.enter(directory, name, { root, names: [], rules: IgnoreRules.NONE })
    })
  }
  return { files: search.best() }
}

/** Rejects with OutsideWorkspace unless all of them are inside. */
export async function confineRoots(workspace: WorkspaceRoot, roots: string[]): Promise<void> {
  for (const root of roots) await inRoot(workspace, root, async () => {})
}

/** A root that is not there, or not to be read, has nothing. */
async function inRoot(workspace: WorkspaceRoot, root: string, use: (place: Place) => Promise<void>): Promise<void> {
  await withPlace(workspace, root, { followsLast: true }, use).catch((error: Error) => {
    if (error instanceof OutsideWorkspace) throw error
  })
}

interface Found extends FuzzyMatch {
  root: string
  path: string
  match_type: 'file' | 'directory'
  file_name: string
}

interface Level {
  root: string
  /** Of the directory, below the root. */
  names: readonly string[]
  rules: IgnoreRules
}

class Search {
  readonly #match: (path: string) => FuzzyMatch | undefined
  readonly #found: Found[] = []
  #seen = 0

  constructor(match: (path: string) => FuzzyMatch | undefined) {
    this.#match = match
  }

  best(): JsonObject[] {
    this.#found.sort((a, b) => b.score - a.score || (a.path < b.path ? -1 : 1))
    return this.#found.slice(0, MAX_RESULTS).map((found) => ({ ...found }))
  }

  async enter(parent: Directory, name: string, level: Level): Promise<void> {
    const directory = await parent.openDirectory(name)
    try {
      const ignored = await readIgnoreFile(directory)
      const rules = ignored === undefined ? level.rules : level.rules.with(ignored, level.names)
      for (const entry of await directory.list(MAX_SEEN - this.#seen)) {
        if (++this.#seen % ENTRIES_AT_ONCE === 0) await nextLoop()
        const names = [...level.names, entry.name]
        const isDirectory = entry.isDirectory()
        if (entry.name === '.git' || rules.ignores(names, isDirectory)) continue
        this.#look(level.root, names, isDirectory)
        // One that is gone or may not be read has nothing.
        if (isDirectory && names.length < MAX_DEPTH) {
          await this.enter(directory, entry.name, { root: level.root, names, rules }).catch(() => {})
        }
      }
    } finally {
      await directory.close()
    }
  }

  #look(root: string, names: readonly string[], isDirectory: boolean): void {
    const path = names.join('/')
    const match = this.#match(path)
    if (match === undefined) return
    const file_name = names[names.length - 1] as string
    const { score, indices } = match
    this.#found.push({ root, path, match_type: isDirectory ? 'directory' : 'file', file_name, score, indices })
  }
}

/** The text of the directory's `.gitignore`; undefined when there is none to read. */
async function readIgnoreFile(directory: Directory): Promise<string | undefined> {
  const file = await directory.openFile('.gitignore').catch(() => undefined)
  if (file === undefined) return undefined
  try {
    await regularFile(file, () => refusal('.gitignore is not a file'))
    const pieces: Buffer[] = []
    await readPieces(file, MAX_IGNORE_BYTES, (piece) => void pieces.push(piece))
    return Buffer.concat(pieces).toString('utf8')
  } catch {
    return undefined
  } finally {
    await file.close()
  }
}
