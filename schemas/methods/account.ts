import { Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, orNull, WithheldSchema } from './atoms.ts'

export const AccountReadParamsSchema = Type.Object({ refreshToken: WithheldSchema }, CLOSED)

export const AccountRateLimitsReadParamsSchema = Type.Object(
  { excludeResetCreditDetails: Type.Optional(Type.Boolean()), supportsLunaReserve: WithheldSchema },
  CLOSED
)

export const AccountUsageReadParamsSchema = Type.Object({ threadId: orNull(IdSchema) }, CLOSED)
