import type { JsonSchema } from './codex-schema.ts'

/**
 * The differences between a schema of ours and the binary's, as sorted lines `<where>: <what>`: fields and union kinds
 * that only one side has, fields that only the binary requires, and enums and primitive types that differ. Inner types
 * that we pass through unread (an empty schema) are not entered.
 */
export function diffSchemas(where: string, ours: JsonSchema, theirs: JsonSchema, definitions: Definitions): string[] {
  const lines: string[] = []
  compare(where, ours, theirs, { definitions, lines })
  return lines.sort()
}

type Definitions = Record<string, JsonSchema>

interface Diff {
  definitions: Definitions
  lines: string[]
}

function compare(where: string, ours: JsonSchema, theirs: JsonSchema, diff: Diff): void {
  if (Object.keys(ours).length === 0) return
  const left = branches(ours, {})
  const right = branches(theirs, diff.definitions)
  compareSets(where, 'value', values(left), values(right), diff)
  compareSets(where, 'type', types(left), types(right), diff)
  compareObjects(where, left, right, diff)
  const leftItems = left.find((schema) => schema.items)?.items
  const rightItems = right.find((schema) => schema.items)?.items
  if (leftItems && rightItems) compare(`${where}/*`, leftItems, rightItems, diff)
}

/** Objects are matched by their tag (`type`); one without a tag by having none. */
function compareObjects(where: string, left: JsonSchema[], right: JsonSchema[], diff: Diff): void {
  const ours = byTag(left)
  const theirs = byTag(right)
  compareSets(where, 'kind', [...ours.keys()], [...theirs.keys()], diff)
  for (const [tag, object] of ours) {
    const other = theirs.get(tag)
    if (other !== undefined) compareFields(tag === '' ? where : `${where}#${tag}`, object, other, diff)
  }
}

function compareFields(where: string, ours: JsonSchema, theirs: JsonSchema, diff: Diff): void {
  const left = ours.properties ?? {}
  const right = theirs.properties ?? {}
  compareSets(where, 'field', Object.keys(left), Object.keys(right), diff)
  const required = (theirs.required ?? []).filter((field) => field in left && !ours.required?.includes(field))
  diff.lines.push(...required.map((field) => `${where}: field ${field} is required there`))
  for (const [field, schema] of Object.entries(left)) {
    const other = right[field]
    if (other !== undefined && !isTag(field, schema)) compare(`${where}/${field}`, schema, other, diff)
  }
}

/** Tags were compared as kinds. */
function isTag(field: string, schema: JsonSchema): boolean {
  return field === 'type' && (schema.const !== undefined || schema.enum !== undefined)
}

function compareSets(where: string, what: string, ours: string[], theirs: string[], diff: Diff): void {
  const only = (these: string[], those: string[]) => [...new Set(these)].filter((one) => !those.includes(one))
  diff.lines.push(...only(ours, theirs).map((one) => `${where}: ${what} ${one} only here`))
  diff.lines.push(...only(theirs, ours).map((one) => `${where}: ${what} ${one} only there`))
}

/** What a value may be, with references followed, unions laid flat and null left out. */
function branches(schema: JsonSchema, definitions: Definitions): JsonSchema[] {
  if (schema.$ref !== undefined) {
    const target = definitions[schema.$ref.split('/').at(-1) ?? '']
    if (target === undefined) throw new Error(`no definition for ${schema.$ref}`)
    return branches(target, definitions)
  }
  const inner = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])]
  const flat = inner.flatMap((branch) => branches(branch, definitions))
  if (schema.properties === undefined) return inner.length > 0 ? flat : schema.type === 'null' ? [] : [schema]
  // an object whose inner union adds fields: any of them may be there
  const added = Object.assign({}, ...flat.map((branch) => branch.properties ?? {}))
  return [{ ...schema, properties: { ...schema.properties, ...added } }]
}

function values(schemas: JsonSchema[]): string[] {
  return schemas.filter((schema) => schema.properties === undefined).flatMap((schema) => schema.enum ?? [])
}

/** Enums carry a type on one side only: they are compared by value. */
function types(schemas: JsonSchema[]): string[] {
  return schemas
    .filter((schema) => schema.enum === undefined && schema.const === undefined)
    .flatMap((schema) => schema.type ?? [])
    .filter((type) => type !== 'null')
}

function byTag(schemas: JsonSchema[]): Map<string, JsonSchema> {
  const tagged = schemas
    .filter((schema) => [schema.type].flat().includes('object'))
    .flatMap((schema) => {
      const tag = schema.properties?.type
      const tags = tag?.enum ?? (tag?.const === undefined ? [''] : [tag.const])
      return tags.map((one) => [one, schema] as const)
    })
  return new Map(tagged)
}
