import { Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, orNull, PhraseSchema, ProseSchema } from './atoms.ts'

/** codex hands the branch to git itself, outside the sandbox: a leading dash would be read as an option. */
const BranchSchema = Type.String({ pattern: '^[^-\\s\\u0000-\\u001f][^\\s\\u0000-\\u001f]*$', maxLength: 256 })

const ReviewTargetSchema = Type.Union([
  Type.Object({ type: Type.Literal('uncommittedChanges') }, CLOSED),
  Type.Object({ type: Type.Literal('baseBranch'), branch: BranchSchema }, CLOSED),
  Type.Object(
    { type: Type.Literal('commit'), sha: Type.String({ pattern: '^[0-9a-fA-F]{4,64}$' }), title: orNull(PhraseSchema) },
    CLOSED
  ),
  Type.Object({ type: Type.Literal('custom'), instructions: ProseSchema }, CLOSED)
])

export const ReviewStartParamsSchema = Type.Object(
  { threadId: IdSchema, target: ReviewTargetSchema, delivery: orNull(Type.Enum(['inline'])) },
  CLOSED
)
