import { type Static, Type } from 'typebox'
import { CLOSED, CursorSchema, LimitSchema, orNull, WithheldSchema } from './atoms.ts'

export const ModelListParamsSchema = Type.Object(
  {
    cursor: orNull(CursorSchema),
    limit: orNull(LimitSchema),
    includeHidden: orNull(Type.Boolean()),
    modelProvider: WithheldSchema
  },
  CLOSED
)
export type ModelListParams = Static<typeof ModelListParamsSchema>
