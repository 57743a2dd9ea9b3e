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

export const FuzzyFileSearchParamsSchema = Type.Object(
  {
    query: PhraseSchema,
    roots: Type.Array(PathSchema, { maxItems: 32 }),
    cancellationToken: orNull(IdSchema)
  },
  CLOSED
)
