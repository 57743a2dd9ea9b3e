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
  /** Roles below `role`, from this one up, get the gateway's own answer: codex's would show what is not theirs. */
  readonly standInFrom?: MethodRole
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
  standInFrom?: MethodRole
}

export function guard(role: MethodRole, method: string, params: TObject, spec: GuardSpec): OpenMethod {
  const { experimental, standInFrom } = spec
  const standIn = standInFrom === undefined ? {} : { standInFrom }
  return { ...open('guard', role, method, params, spec), ...standIn, experimental: experimental === X }
}

export function answer(role: MethodRole, method: string, params: TObject, spec: GuardSpec = {}): OpenMethod {
  return { ...open('answer', role, method, params, spec), experimental: spec.experimental === X }
}

function open(action: OpenMethod['action'], role: MethodRole, method: string, params: TObject, spec: GuardSpec) {
  const { guards = [], fields = {} } = spec
  return { method, action, role, params, guards, roleFields: fields }
}

export function deny(method: string, reason: string, experimental?: Experimental): DeniedMethod {
  return { method, action: 'deny', reason, experimental: experimental === X }
}
