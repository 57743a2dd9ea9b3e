import { type Static, type TSchema, Type } from 'typebox'

/** User ids: what a directory hash, a log line and a Redis key can all carry. */
export const UserIdSchema = Type.String({ pattern: '^[A-Za-z0-9._@:|-]{1,128}$' })

/** Ids that codex or the gateway made: opaque, bounded so that a hostile one costs nothing. */
export const IdSchema = Type.String({ minLength: 1, maxLength: 256 })

/** One of a set of strings; in OpenAPI a string with an enum (a union of literals would be an anyOf). */
export function stringEnum<const T extends readonly string[]>(values: T) {
  return Type.Unsafe<T[number]>({ type: 'string', enum: [...values] })
}

export const RoleSchema = stringEnum(['viewer', 'user', 'approver', 'admin', 'service'])
export type Role = Static<typeof RoleSchema>

/** The one error shape; `code` is from errors.ts (`CC_…`), `details` is data for programs. */
export const ErrorPayloadSchema = Type.Object(
  {
    code: Type.String(),
    message: Type.String(),
    details: Type.Optional(Type.Record(Type.String(), Type.Unknown()))
  },
  { $id: 'ErrorPayload' }
)
export type ErrorPayload = Static<typeof ErrorPayloadSchema>

export const ApiErrorSchema = Type.Object({ error: ErrorPayloadSchema }, { $id: 'ApiError' })
export type ApiError = Static<typeof ApiErrorSchema>

/** A `$ref` for responses that keeps the static type (`Type.Ref` alone infers unknown). The schema must have a `$id`. */
export function ref<S extends TSchema & { $id?: string }>(schema: S) {
  return Type.Unsafe<Static<S>>({ $ref: `${schema.$id}#` })
}
