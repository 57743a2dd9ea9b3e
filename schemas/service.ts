import { Type } from 'typebox'
import { stringEnum } from './common.ts'

export const HealthSchema = Type.Object({ status: Type.Literal('ok'), version: Type.String() }, { $id: 'Health' })

const CheckSchema = stringEnum(['ok', 'failing'])

export const ReadySchema = Type.Object(
  {
    status: stringEnum(['ready', 'not ready']),
    checks: Type.Object({ store: CheckSchema, audit: CheckSchema }),
    processes: Type.Object({ running: Type.Integer(), max: Type.Integer() })
  },
  { $id: 'Ready' }
)

export const TicketSchema = Type.Object(
  {
    ticket: Type.String({ description: 'Goes into ?ticket= of one WebSocket URL' }),
    expiresAt: Type.String({ format: 'date-time' })
  },
  { $id: 'Ticket' }
)
