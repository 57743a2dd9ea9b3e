import { Compile } from 'typebox/compile'
import { PolicyFileInvalid, withDetails } from '../../errors.ts'
import { type PolicyFile, PolicyFileSchema } from '../../schemas/policy.ts'
import { policyProblems } from './policy-problems.ts'
import { positionOf, readPositionedJson } from './positioned-json.ts'

const validator = Compile(PolicyFileSchema)
const MAX_PROBLEMS = 10

interface Located {
  readonly message: string
  readonly offset: number
}

/**
 * Reads a policy file.
 *
 * @param filename names the file in errors; nothing is opened
 * @throws PolicyFileInvalid naming line and column of each problem; `details.problems` has `{line, column, message}`
 */
export function parsePolicyFile(text: string, filename: string): PolicyFile {
  const json = readPositionedJson(text)
  if ('problem' in json) throw invalid(filename, text, [{ message: json.problem, offset: json.offset }])
  const locate = (pointer: string, message: string): Located => ({
    message: pointer === '' ? message : `${pointer}: ${message}`,
    offset: json.offsets.get(pointer) ?? 0
  })
  if (!validator.Check(json.value)) throw invalid(filename, text, schemaProblems(json.value, locate))
  const problems = policyProblems(json.value).map(({ pointer, message }) => locate(pointer, message))
  if (problems.length > 0) throw invalid(filename, text, problems)
  return json.value
}

function schemaProblems(value: unknown, locate: (pointer: string, message: string) => Located): Located[] {
  const problems = new Map<string, Located>()
  for (const error of validator.Errors(value)) {
    // An unknown field is reported twice, by its object and by itself; only the second has a place.
    if (error.keyword === 'additionalProperties') continue
    const message = error.keyword === 'boolean' ? 'this field is not known here' : describe(error)
    if (!problems.has(error.instancePath)) problems.set(error.instancePath, locate(error.instancePath, message))
  }
  return [...problems.values()]
}

function describe(error: { keyword: string; message: string; params: object; instancePath: string }): string {
  const { allowedValues } = error.params as { allowedValues?: readonly unknown[] }
  if (error.keyword === 'enum' && allowedValues !== undefined) {
    return `must be one of ${allowedValues.map((value) => JSON.stringify(value)).join(', ')}`
  }
  // The expression itself tells its reader nothing.
  if (error.keyword === 'pattern' && /\/paths\/\d+$/.test(error.instancePath)) {
    return 'must be /dir/*, /dir/file, or a path relative to the workspace such as docs/*; * stands only at the end'
  }
  return error.message
}

function invalid(filename: string, text: string, problems: readonly Located[]): Error {
  const placed = problems
    .map(({ message, offset }) => ({ ...positionOf(text, offset), message }))
    .sort((left, right) => left.line - right.line || left.column - right.column)
    .slice(0, MAX_PROBLEMS)
  const summary = placed.map(({ line, column, message }) => `line ${line}, column ${column}: ${message}`).join('; ')
  return withDetails(new PolicyFileInvalid(filename, summary), { problems: placed })
}
