import { Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, NameSchema, orNull, PhraseSchema } from './atoms.ts'

const appearance = {
  appearance: orNull(Type.Object({ color: orNull(NameSchema), icon: orNull(NameSchema) }, CLOSED))
}

export const ThreadSectionCreateParamsSchema = Type.Object({ name: PhraseSchema, ...appearance }, CLOSED)

export const ThreadSectionUpdateParamsSchema = Type.Object(
  { sectionId: IdSchema, name: PhraseSchema, ...appearance },
  CLOSED
)

export const ThreadSectionDeleteParamsSchema = Type.Object({ sectionId: IdSchema }, CLOSED)

/** `sectionId: null` takes the thread out of its section. */
export const ThreadSectionMoveParamsSchema = Type.Object(
  { threadId: IdSchema, sectionId: Type.Union([IdSchema, Type.Null()]), beforeThreadId: orNull(IdSchema) },
  CLOSED
)
