import type { JsonSchema } from './codex-schema.ts'

export interface SampleRules {
  definitions: Record<string, JsonSchema>
  /** `required`: the least that the schema takes. `all`: every field that it knows. */
  fill: 'required' | 'all'
  /** The text for a field of this name. */
  text(name: string): string
}

const MAX_DEPTH = 8

/** A value that fits a JSON schema of the binary. */
export function sampleOf(schema: JsonSchema, rules: SampleRules, name = '', depth = 0): unknown {
  const target = schema.$ref === undefined ? schema : rules.definitions[schema.$ref.split('/').at(-1) ?? '']
  if (target === undefined) throw new Error(`no definition for ${schema.$ref}`)
  if (target !== schema) return sampleOf(target, rules, name, depth)
  const inner = [...(schema.allOf ?? []), ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]
  const [kind] = [schema.type].flat().filter((type) => type !== 'null')
  if (schema.const !== undefined || schema.enum !== undefined) return schema.const ?? schema.enum?.[0]
  if (schema.properties !== undefined) return sampleObject(schema, rules, depth)
  if (inner[0] !== undefined) return sampleOf(inner.find((one) => one.type !== 'null') ?? inner[0], rules, name, depth)
  if (kind === 'array') return [sampleOf(schema.items ?? {}, rules, name, depth + 1)]
  if (kind === 'integer' || kind === 'number') return 1
  if (kind === 'boolean') return true
  return kind === 'string' ? rules.text(name) : {}
}

function sampleObject(schema: JsonSchema, rules: SampleRules, depth: number): unknown {
  const properties = schema.properties ?? {}
  const isFull = rules.fill === 'all' && depth < MAX_DEPTH
  const fields = isFull ? Object.keys(properties) : (schema.required ?? [])
  return Object.fromEntries(fields.map((field) => [field, sampleOf(properties[field] ?? {}, rules, field, depth + 1)]))
}
