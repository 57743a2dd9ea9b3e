import { Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, orNull, PathSchema, PhraseSchema } from './atoms.ts'

/** Files of the workspace. Paths are absolute as codex sees them, or relative to the workspace. */

/** The most of a file that goes through one message, in bytes; both ways. */
export const MAX_FILE_BYTES = 8 * 1024 * 1024
const MAX_BASE64_CHARS = Math.ceil(MAX_FILE_BYTES / 3) * 4

export const FsPathParamsSchema = Type.Object({ path: PathSchema }, CLOSED)

export const FsWriteFileParamsSchema = Type.Object(
  { path: PathSchema, dataBase64: Type.String({ maxLength: MAX_BASE64_CHARS }) },
  CLOSED
)

export const FsCreateDirectoryParamsSchema = Type.Object(
  { path: PathSchema, recursive: orNull(Type.Boolean()) },
  CLOSED
)

export const FsRemoveParamsSchema = Type.Object(
  { path: PathSchema, recursive: orNull(Type.Boolean()), force: orNull(Type.Boolean()) },
  CLOSED
)

export const FsCopyParamsSchema = Type.Object(
  { sourcePath: PathSchema, destinationPath: PathSchema, recursive: Type.Optional(Type.Boolean()) },
  CLOSED
)

const RootsSchema = Type.Array(PathSchema, { maxItems: 32 })

export const FuzzyFileSearchParamsSchema = Type.Object(
  {
    query: PhraseSchema,
    roots: RootsSchema,
    cancellationToken: orNull(IdSchema)
  },
  CLOSED
)

export const FsWatchParamsSchema = Type.Object({ watchId: IdSchema, path: PathSchema }, CLOSED)
export const FsUnwatchParamsSchema = Type.Object({ watchId: IdSchema }, CLOSED)

export const SearchSessionStartParamsSchema = Type.Object({ sessionId: IdSchema, roots: RootsSchema }, CLOSED)
export const SearchSessionUpdateParamsSchema = Type.Object({ sessionId: IdSchema, query: PhraseSchema }, CLOSED)
export const SearchSessionStopParamsSchema = Type.Object({ sessionId: IdSchema }, CLOSED)
