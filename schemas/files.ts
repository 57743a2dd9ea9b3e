import { type Static, Type } from 'typebox'
import { stringEnum, UserIdSchema } from './common.ts'

const MAX_PATH_CHARS = 4096
export const MAX_TREE_ENTRIES = 10_000
export const MAX_TREE_DEPTH = 32

const path = Type.String({
  maxLength: MAX_PATH_CHARS,
  description: 'Relative to the workspace, or absolute as codex sees it; empty for the workspace itself'
})
const userId = Type.Optional(UserIdSchema)
const closed = { additionalProperties: false }

export const FileEntrySchema = Type.Object(
  {
    path: Type.String({ description: 'Relative to the workspace' }),
    kind: stringEnum(['file', 'directory', 'link', 'other']),
    bytes: Type.Integer({ description: 'Of a file; else 0' }),
    modifiedAt: Type.String({ format: 'date-time' })
  },
  { $id: 'FileEntry' }
)
export type FileEntry = Static<typeof FileEntrySchema>

export const FileTreeSchema = Type.Object(
  {
    path: Type.String({ description: 'Of the directory, relative to the workspace' }),
    entries: Type.Array(Type.Unsafe<FileEntry>({ $ref: 'FileEntry#' }), {
      description: 'By name, a directory before what is in it; links are not followed'
    }),
    truncated: Type.Boolean({ description: 'There is more than `limit`: ask for its directories one by one' })
  },
  { $id: 'FileTree' }
)
export type FileTree = Static<typeof FileTreeSchema>

export const ListFilesQuerySchema = Type.Object(
  {
    userId,
    path: Type.Optional(path),
    depth: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_TREE_DEPTH, default: 1 })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_TREE_ENTRIES, default: 1000 }))
  },
  closed
)
export type ListFilesQuery = Static<typeof ListFilesQuerySchema>

const ticket = Type.Optional(
  Type.String({ maxLength: 128, description: 'From POST /api/tickets, for a link, which sends no headers' })
)
export const DownloadQuerySchema = Type.Object({ userId, ticket, path }, closed)
export const UploadQuerySchema = Type.Object({ userId, path }, closed)
export const ArchiveQuerySchema = Type.Object({ userId, ticket, path: Type.Optional(path) }, closed)

export const RemoveFileQuerySchema = Type.Object(
  {
    userId,
    path,
    recursive: Type.Optional(Type.Boolean({ description: 'A directory with all that is in it', default: false }))
  },
  closed
)

export const MakeDirectoryBodySchema = Type.Object({ userId, path }, closed)
