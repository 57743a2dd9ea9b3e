import { type Static, Type } from 'typebox'
import { CLOSED, NameSchema, orNull, PathSchema } from './atoms.ts'

/** codex refuses more characters than this in one input (`input_too_large`). */
export const MAX_INPUT_CHARS = 1_048_576

/** About 15 MB of image; the door's frame limit may be lower. */
const MAX_IMAGE_URL_CHARS = 20_000_000

const OffsetSchema = Type.Integer({ minimum: 0, maximum: 4 * MAX_INPUT_CHARS })

const TextElementSchema = Type.Object(
  {
    byteRange: Type.Object({ start: OffsetSchema, end: OffsetSchema }, CLOSED),
    placeholder: orNull(NameSchema)
  },
  CLOSED
)

export const TextInputSchema = Type.Object(
  {
    type: Type.Literal('text'),
    text: Type.String({ maxLength: MAX_INPUT_CHARS }),
    text_elements: Type.Optional(Type.Array(TextElementSchema, { maxItems: 1000 }))
  },
  CLOSED
)

/** http is left out: whoever fetches it may do so inside the operator's network. */
export const ImageInputSchema = Type.Object(
  {
    type: Type.Literal('image'),
    url: Type.String({
      pattern: '^(https://[^\\s]+$|data:image/(png|jpe?g|gif|webp);base64,)',
      maxLength: MAX_IMAGE_URL_CHARS
    }),
    detail: orNull(Type.Enum(['auto', 'low', 'high', 'original']))
  },
  CLOSED
)

export const SkillInputSchema = Type.Object({ type: Type.Literal('skill'), name: NameSchema, path: PathSchema }, CLOSED)

export const MentionInputSchema = Type.Object(
  { type: Type.Literal('mention'), name: NameSchema, path: PathSchema },
  CLOSED
)

/**
 * What a user says in a turn. codex also knows localImage, localAudio (it would read any file of its host) and audio:
 * not opened.
 */
export const UserInputSchema = Type.Union([TextInputSchema, ImageInputSchema, SkillInputSchema, MentionInputSchema])
export type UserInput = Static<typeof UserInputSchema>

/** A plain string is our convenience for one text item. */
export const InputSchema = Type.Union([
  Type.String({ minLength: 1, maxLength: MAX_INPUT_CHARS }),
  Type.Array(UserInputSchema, { maxItems: 128 })
])
