import type { TObject } from 'typebox'
import type { Role } from '../../schemas/common.ts'

/** The roles that a method can ask for; `service` acts for users and counts as one. */
export type MethodRole = Exclude<Role, 'service'>

/**
 * What src/codex/method-guards.ts does with checked params, in this order:
 * `directory` confines `cwd` and makes it · `workspace` the same, and the workspace when none is given ·
 * `lookup` confines `cwd` (one or many) and makes nothing · `lookups` confines `cwds`, the workspace when none ·
 * `input` confines the paths of turn input · `thread`, `turn` inject the gateway's approval and sandbox values.
 */
export type Guard = 'directory' | 'workspace' | 'lookup' | 'lookups' | 'input' | 'thread' | 'turn'

/**
 * Who may set a known field: that role and above, `toolClient` a client that answers item/tool/call, `nobody` no client.
 * Keys are top-level names, or a JSON pointer for a nested field.
 */
export type RoleFields = Readonly<Record<string, MethodRole | 'toolClient' | 'nobody'>>

interface MethodBase {
  readonly method: string
  /** codex opens it only to a connection that asked for `experimentalApi`. */
  readonly experimental: boolean
}

/** `forward`: checked params pass. `guard`: they are rewritten first. `answer`: the gateway answers, codex never hears. */
export interface OpenMethod extends MethodBase {
  readonly action: 'forward' | 'guard' | 'answer'
  readonly role: MethodRole
  readonly params: TObject
  readonly guards: readonly Guard[]
  readonly roleFields: RoleFields
}

export interface DeniedMethod extends MethodBase {
  readonly action: 'deny'
  readonly reason: string
}

export type Method = OpenMethod | DeniedMethod

/** The last argument of a row that codex has only under `--experimental`. */
export const X = 'experimental'
type Experimental = typeof X

export function forward(role: MethodRole, method: string, params: TObject, experimental?: Experimental): OpenMethod {
  return { method, action: 'forward', role, params, guards: [], roleFields: {}, experimental: experimental === X }
}

export interface GuardSpec {
  guards?: readonly Guard[]
  fields?: RoleFields
  experimental?: Experimental
}

export function guard(role: MethodRole, method: string, params: TObject, spec: GuardSpec): OpenMethod {
  const { guards = [], fields = {}, experimental } = spec
  return { method, action: 'guard', role, params, guards, roleFields: fields, experimental: experimental === X }
}

export function answer(role: MethodRole, method: string, params: TObject, fields: RoleFields): OpenMethod {
  return { method, action: 'answer', role, params, guards: [], roleFields: fields, experimental: false }
}

export function deny(method: string, reason: string, experimental?: Experimental): DeniedMethod {
  return { method, action: 'deny', reason, experimental: experimental === X }
}
