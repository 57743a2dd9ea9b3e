import { Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, IdsSchema, orNull, WithheldSchema } from './atoms.ts'
import { InputSchema } from './user-input.ts'

export const ThreadQueueAddParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    clientUserMessageId: IdSchema,
    input: InputSchema,
    responsesapiClientMetadata: WithheldSchema
  },
  CLOSED
)

export const ThreadQueueUpdateParamsSchema = Type.Object(
  {
    threadId: IdSchema,
    queuedSubmissionId: IdSchema,
    input: InputSchema,
    responsesapiClientMetadata: WithheldSchema
  },
  CLOSED
)

export const ThreadQueueDeleteParamsSchema = Type.Object({ threadId: IdSchema, queuedSubmissionId: IdSchema }, CLOSED)

export const ThreadQueueReorderParamsSchema = Type.Object(
  { threadId: IdSchema, queuedSubmissionIds: IdsSchema },
  CLOSED
)

export const ThreadQueueStartParamsSchema = Type.Object(
  { threadId: IdSchema, queuedSubmissionId: orNull(IdSchema) },
  CLOSED
)
