import type { TSchema } from 'typebox'
import type { Validator } from 'typebox/compile'

/** What is wrong with a value: the JSON pointer of the field at fault ('' is the whole value) and why. */
export interface Fault {
  path: string
  problem: string
}

type SchemaError = ReturnType<Validator['Errors']>[number]

/** The most telling fault of a value, or undefined when it fits. */
export function findFault(validator: Validator<Record<never, never>, TSchema>, value: unknown): Fault | undefined {
  if (validator.Check(value)) return undefined
  const errors = validator.Errors(value)
  // In a union tagged by `type`, the branches whose tag differs complain too: their complaints mislead.
  const otherBranches = errors.filter(isTagMismatch).map((error) => error.schemaPath.replace(/\/properties\/type$/, ''))
  const telling = errors.filter(
    (error) => !VAGUE.has(error.keyword) && !otherBranches.some((branch) => isUnder(branch, error.schemaPath))
  )
  const [fault] = (telling.length > 0 ? telling : errors).map(describe).sort((a, b) => depth(b.path) - depth(a.path))
  return fault ?? { path: '', problem: 'does not fit' }
}

/** `anyOf` says only that no branch fits; `boolean` repeats `additionalProperties`. */
const VAGUE = new Set(['anyOf', 'boolean'])

function isTagMismatch(error: SchemaError): boolean {
  return error.keyword === 'const' && error.schemaPath.endsWith('/properties/type')
}

function isUnder(branch: string, schemaPath: string): boolean {
  return schemaPath === branch || schemaPath.startsWith(`${branch}/`)
}

function describe(error: SchemaError): Fault {
  if (error.keyword === 'required') {
    return { path: pointer(error.instancePath, error.params.requiredProperties[0]), problem: 'is required' }
  }
  if (error.keyword === 'additionalProperties') {
    return { path: pointer(error.instancePath, error.params.additionalProperties[0]), problem: 'is not a known field' }
  }
  return { path: error.instancePath, problem: error.message }
}

function depth(path: string): number {
  return path.split('/').length
}

/** The JSON pointer of a field inside the value at `parent`. */
export function pointer(parent: string, field = ''): string {
  return `${parent}/${field.replaceAll('~', '~0').replaceAll('/', '~1')}`
}
