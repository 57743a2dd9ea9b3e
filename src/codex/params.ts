import { Compile, type Validator } from 'typebox/compile'
import { InvalidMessage, MethodDenied, UnknownMessageType, withDetails } from '../../errors.ts'
import type { Role } from '../../schemas/common.ts'
import { type Fault, findFault, pointer } from './method-faults.ts'
import { type ApprovalMode, applyGuard, type JsonObject, threadPolicy, type WorkspacePaths } from './method-guards.ts'
import { expandInput, findInputFault } from './method-input.ts'
import type { OpenMethod } from './method-row.ts'
import { findMethod, roleAtLeast } from './methods.ts'

export interface GuardRequest extends WorkspacePaths {
  method: string
  /** As the client sent them; absent or null counts as `{}`. Never altered. */
  params?: unknown
  roles: readonly Role[]
  mode: ApprovalMode
  /** This client answers item/tool/call, so it may bring dynamicTools. Default false. */
  answersToolCalls?: boolean
  /** The native door: top-level fields that are in no schema are dropped, not refused. Default false. */
  lenient?: boolean
}

export interface GuardedParams {
  /** What codex may get. */
  params: JsonObject
  /** What the client sent and codex does not get: top-level fields by name, nested ones by JSON pointer. */
  dropped: string[]
  /** The gateway answers this one itself: codex must not hear of it. */
  isAnswered: boolean
}

/** A method's and a field's name are the client's text, of any length: errors repeat only so much of it. */
const MAX_ECHO_CHARS = 256

const validators = new Map<string, Validator>()

/** Compiled when first used, so that no method can be open and unchecked. */
function validatorOf(row: OpenMethod): Validator {
  const validator = validators.get(row.method) ?? Compile(row.params)
  validators.set(row.method, validator)
  return validator
}

/**
 * Turns a client's params into what codex, or the gateway's own answer, may get: fields that the roles may not set are dropped, the rest is checked
 * against the method's schema, paths are confined to the workspace, and the gateway's approval policy, reviewer and
 * sandbox are put in. Rejects with UnknownMessageType, MethodDenied, InvalidMessage (`details.path` is the JSON pointer
 * of the field at fault) or OutsideWorkspace (the same).
 */
export async function guardParams(request: GuardRequest): Promise<GuardedParams> {
  const row = openMethod(request.method, request.roles)
  const params = copyParams(row, request.params)
  const dropped = dropFields(row, params, request)
  const { method, mode, lenient = false } = request
  dropped.push(...dropUnknown(row, params, lenient))
  expandConveniences(row, params)
  check(row, params)
  const context = {
    method,
    mode,
    lenient,
    dropped,
    resolveDirectory: (path: string) => request.resolveDirectory(path),
    resolvePath: (path: string) => request.resolvePath(path)
  }
  for (const guard of row.guards) await applyGuard(guard, params, context)
  return { params, dropped, isAnswered: row.action === 'answer' || !roleAtLeast(request.roles, row.role) }
}

function openMethod(method: string, roles: readonly Role[]): OpenMethod {
  const row = findMethod(method)
  if (row === undefined) throw new UnknownMessageType(method.slice(0, MAX_ECHO_CHARS))
  if (row.action === 'deny') throw denied(method, roles, { reason: row.reason })
  if (!roleAtLeast(roles, row.standInFrom ?? row.role)) throw denied(method, roles, { needed: row.role })
  return row
}

function denied(method: string, roles: readonly Role[], why: object): Error {
  return withDetails(new MethodDenied(method, roles.join(', ')), { method, ...why })
}

function copyParams(row: OpenMethod, params: unknown): JsonObject {
  if (params === undefined || params === null) return {}
  if (!isObject(params)) throw invalid(row, { path: '', problem: 'must be an object' })
  return { ...params }
}

/** Takes out what the roles may not set. A null means "not set": it goes without a word. */
function dropFields(row: OpenMethod, params: JsonObject, request: GuardRequest): string[] {
  return Object.entries(row.roleFields).flatMap(([field, who]) => {
    const maySet =
      who === 'toolClient' ? request.answersToolCalls === true : who !== 'nobody' && roleAtLeast(request.roles, who)
    if (maySet) return []
    const removed = removeField(params, field.startsWith('/') ? field.slice(1).split('/') : [field])
    return removed === undefined || removed === null ? [] : [field]
  })
}

/** Copies each object on the way down: the client's own value stays as it came. */
function removeField(object: JsonObject, [head = '', ...rest]: string[]): unknown {
  if (!Object.hasOwn(object, head)) return undefined
  const value = object[head]
  if (rest.length === 0) {
    delete object[head]
    return value
  }
  if (!isObject(value)) return undefined
  const copy = { ...value }
  object[head] = copy
  return removeField(copy, rest)
}

function dropUnknown(row: OpenMethod, params: JsonObject, lenient: boolean): string[] {
  const unknown = Object.keys(params).filter((field) => !Object.hasOwn(row.params.properties, field))
  if (!lenient && unknown.length > 0) {
    throw invalid(row, { path: pointer('', unknown[0]), problem: 'is not a known field' })
  }
  for (const field of unknown) delete params[field]
  return unknown
}

/** `workingDirectory` becomes `cwd`, a plain string becomes turn input. */
function expandConveniences(row: OpenMethod, params: JsonObject): void {
  if (Object.hasOwn(params, 'workingDirectory')) {
    if (typeof params.cwd === 'string') {
      throw invalid(row, { path: '/workingDirectory', problem: 'and cwd are the same: send one' })
    }
    // checked under the client's own name, or the fault would point at a field that was never sent
    check(row, params)
    params.cwd = params.workingDirectory
    delete params.workingDirectory
  }
  if (row.guards.includes('input')) params.input = expandInput(params.input)
}

function check(row: OpenMethod, params: JsonObject): void {
  const inputFault = row.guards.includes('input') ? findInputFault(params.input) : undefined
  const fault = inputFault ?? findFault(validatorOf(row), params)
  if (fault !== undefined) throw invalid(row, fault)
}

function invalid(row: OpenMethod, fault: Fault) {
  const path = fault.path.slice(0, MAX_ECHO_CHARS)
  const message = `${row.method}: ${path === '' ? 'params' : path} ${fault.problem}`
  return withDetails(new InvalidMessage(message), { method: row.method, path })
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value in codex's reply that is not what the gateway asked for. */
export interface ReplyMismatch {
  /** JSON pointer into the reply's result. */
  path: string
  expected: unknown
  actual: unknown
}

const THREAD_REPLIES = new Set(['thread/start', 'thread/resume', 'thread/fork'])

/**
 * Compares codex's result of thread/start, thread/resume or thread/fork with what was injected; empty when the thread
 * runs as asked, and for every other method. A thread with a mismatch must not be used: a loaded thread ignores the
 * overrides of thread/resume, and a requirements.toml may replace them.
 */
export function checkReply(method: string, result: unknown, mode: ApprovalMode): ReplyMismatch[] {
  if (!THREAD_REPLIES.has(method)) return []
  const reply = isObject(result) ? result : {}
  const sandbox = isObject(reply.sandbox) ? reply.sandbox : {}
  const { approvalPolicy, approvalsReviewer } = threadPolicy(mode)
  const rows: ReplyMismatch[] = [
    { path: '/approvalPolicy', expected: approvalPolicy, actual: reply.approvalPolicy },
    { path: '/approvalsReviewer', expected: approvalsReviewer, actual: reply.approvalsReviewer },
    { path: '/sandbox/type', expected: 'workspaceWrite', actual: sandbox.type },
    { path: '/sandbox/networkAccess', expected: false, actual: sandbox.networkAccess },
    { path: '/sandbox/writableRoots', expected: [], actual: sandbox.writableRoots }
  ]
  return rows.filter(({ expected, actual }) => JSON.stringify(expected) !== JSON.stringify(actual))
}
