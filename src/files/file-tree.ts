import type { FileTree, ListFilesQuery } from '../../schemas/files.ts'
import { describeEntry } from './file-entry.ts'
import { systemError } from './file-errors.ts'
import { TreeWalk } from './tree-walk.ts'
import { type WorkspaceRoot, withPlace } from './walk.ts'

const DEFAULT_DEPTH = 1
const DEFAULT_LIMIT = 1_000

/** What is in a directory, and in those in it. Rejects as WorkspaceFiles does. */
export function listTree(root: WorkspaceRoot, query: ListFilesQuery): Promise<FileTree> {
  const { path = '', depth = DEFAULT_DEPTH, limit = DEFAULT_LIMIT } = query
  return withPlace(root, path, { followsLast: true }, async (place) => {
    if (place.stat === undefined) throw systemError('ENOENT')
    if (!place.stat.isDirectory()) throw systemError('ENOTDIR')
    const base = await place.directory.openDirectory(place.name)
    try {
      const walk = new TreeWalk(limit, depth)
      const entries: FileTree['entries'] = []
      for await (const { directory, name, stat } of walk.entries(base)) {
        entries.push(describeEntry(pathOf([...directory.names, name]), stat))
      }
      return { path: pathOf(base.names), entries, truncated: walk.isTruncated }
    } finally {
      await base.close()
    }
  })
}

/** A place that is a directory itself has the name `.` in it. */
function pathOf(names: readonly string[]): string {
  return names.filter((name) => name !== '.').join('/')
}
