import { Compile } from 'typebox/compile'
import * as Input from '../../schemas/methods/user-input.ts'
import { type Fault, findFault } from './method-faults.ts'

const KINDS = {
  text: Compile(Input.TextInputSchema),
  image: Compile(Input.ImageInputSchema),
  skill: Compile(Input.SkillInputSchema),
  mention: Compile(Input.MentionInputSchema)
}

/** Turn input as codex takes it: a plain string becomes one text item, all else stays for the schema to judge. */
export function expandInput(input: unknown): unknown {
  return typeof input === 'string' ? [{ type: 'text', text: input, text_elements: [] }] : input
}

/** The fault of the first item that is not open to clients or does not fit its own kind. */
export function findInputFault(input: unknown): Fault | undefined {
  if (!Array.isArray(input)) return undefined
  for (const [index, item] of input.entries()) {
    const fault = findItemFault(item)
    if (fault !== undefined) return { ...fault, path: `/input/${index}${fault.path}` }
  }
  return undefined
}

function findItemFault(item: unknown): Fault | undefined {
  const kind: unknown = Object(item).type
  if (typeof kind !== 'string' || !Object.hasOwn(KINDS, kind)) {
    return { path: '/type', problem: `must be one of ${Object.keys(KINDS).join(', ')}` }
  }
  return findFault(KINDS[kind as keyof typeof KINDS], item)
}
