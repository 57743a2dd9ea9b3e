import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** As much of a JSON schema as says what a message may hold. */
interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  additionalProperties?: Schema | boolean
  definitions?: Record<string, Schema>
}

/** By method: the paths of everything that its params may hold, as `threadId!: string` (`!`: it has to be there). */
export type MessageFields = Map<string, Set<string>>

/** What one codex binary speaks: requests of clients, its own requests, its notifications. */
export interface ProtocolSurface {
  requests: MessageFields
  serverRequests: MessageFields
  notifications: MessageFields
}

const MAX_DEPTH = 8

/** Has a codex binary write down its own protocol, with what is experimental. */
export function readSurface(binary: string): ProtocolSurface {
  const out = mkdtempSync(join(tmpdir(), 'codex-schema-'))
  try {
    const env = { PATH: process.env.PATH, HOME: out, CODEX_HOME: out }
    for (const command of ['generate-ts', 'generate-json-schema']) {
      execFileSync(binary, ['app-server', command, '--experimental', '--out', out], { env, stdio: 'pipe' })
    }
    const read = (name: string) => fieldsOf(JSON.parse(readFileSync(join(out, `${name}.json`), 'utf8')))
    const requests = read('ClientRequest')
    // The JSON schema leaves the oldest out.
    const types = readFileSync(join(out, 'ClientRequest.ts'), 'utf8')
    for (const [, method = ''] of types.matchAll(/"method": "([^"]+)"/g)) {
      if (!requests.has(method)) requests.set(method, new Set())
    }
    return { requests, serverRequests: read('ServerRequest'), notifications: read('ServerNotification') }
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
}

/** The messages of a schema that is a union of them, each tagged by `method`. */
export function fieldsOf(root: Schema): MessageFields {
  const messages: MessageFields = new Map()
  for (const message of root.oneOf ?? []) {
    const method = message.properties?.method?.enum?.[0]
    if (typeof method !== 'string') continue
    const fields = new Set<string>()
    collect(message.properties?.params ?? {}, '', { definitions: root.definitions ?? {}, fields, refs: [] })
    messages.set(method, fields)
  }
  return messages
}

interface Collecting {
  definitions: Record<string, Schema>
  fields: Set<string>
  /** The references on the way here: a schema that holds itself is entered once. */
  refs: readonly string[]
}

function collect(schema: Schema, at: string, collecting: Collecting): void {
  const { definitions, fields, refs } = collecting
  const { $ref } = schema
  if ($ref !== undefined) {
    const target = definitions[$ref.split('/').at(-1) ?? '']
    if (target === undefined || refs.includes($ref) || refs.length > MAX_DEPTH) return
    collect(target, at, { ...collecting, refs: [...refs, $ref] })
    return
  }
  for (const inner of [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])]) {
    collect(inner, at, collecting)
  }
  for (const value of schema.enum ?? []) fields.add(`${at} = ${JSON.stringify(value)}`)
  if (schema.items !== undefined) collect(schema.items, `${at}[]`, collecting)
  if (typeof schema.additionalProperties === 'object') collect(schema.additionalProperties, `${at}.*`, collecting)
  const tag = schema.properties?.type?.enum?.[0]
  const place = typeof tag === 'string' ? `${at}<${tag}>` : at
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    const isRequired = schema.required?.includes(name) === true
    const path = `${place === '' ? '' : `${place}.`}${name}`
    fields.add(`${path}${isRequired ? '!' : ''}${primitive(inner)}`)
    collect(inner, path, collecting)
  }
}

function primitive({ type }: Schema): string {
  const types = [type ?? []].flat().filter((one) => one !== 'null' && one !== 'object' && one !== 'array')
  return types.length === 0 ? '' : `: ${types.join('|')}`
}
