import { type TSchema, Type } from 'typebox'
import { IdSchema } from '../common.ts'

/**
 * What the parameter schemas are made of. Each opened method's params are written by hand here, with
 * `additionalProperties: false`; test/codex/params.test.ts compares them with the pinned binary's own schema.
 */

/** An optional field that codex also takes as `null` ("not set"). */
export function orNull<S extends TSchema>(schema: S) {
  return Type.Optional(Type.Union([schema, Type.Null()]))
}

/** An object in which a field that is not named is refused. */
export const CLOSED = { additionalProperties: false } as const

/** Known to codex, never taken from a client: the method table drops it before the check. */
export const WithheldSchema = Type.Optional(Type.Unknown())

/** A path that a client names. The bound is Linux's PATH_MAX; a NUL would end the path early in C code. */
export const PathSchema = Type.String({ minLength: 1, maxLength: 4096, pattern: '^[^\\u0000]+$' })

/** A short name: a model, a tier, a tool, a branch of a list. */
export const NameSchema = Type.String({ maxLength: 256 })

/** A title or a search term. */
export const PhraseSchema = Type.String({ maxLength: 1024 })

/** Instructions, an objective, a review's brief. */
export const ProseSchema = Type.String({ maxLength: 131_072 })

export const CursorSchema = Type.String({ maxLength: 4096 })
export const LimitSchema = Type.Integer({ minimum: 0, maximum: 1000 })
export const IdsSchema = Type.Array(IdSchema, { maxItems: 100 })
export const SortDirectionSchema = Type.Enum(['asc', 'desc'])
export const ItemsViewSchema = Type.Enum(['notLoaded', 'summary', 'full'])

export const NoParamsSchema = Type.Object({}, CLOSED)
export const PageParamsSchema = Type.Object({ cursor: orNull(CursorSchema), limit: orNull(LimitSchema) }, CLOSED)
export const ThreadIdParamsSchema = Type.Object({ threadId: IdSchema }, CLOSED)
export const ThreadPageParamsSchema = Type.Object(
  { threadId: IdSchema, cursor: orNull(CursorSchema), limit: orNull(LimitSchema) },
  CLOSED
)
