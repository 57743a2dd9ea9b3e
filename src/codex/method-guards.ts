import { OutsideWorkspace, withDetails } from '../../errors.ts'
import type { Guard } from './method-row.ts'

export type JsonObject = Record<string, unknown>

/** `on-request`: codex asks when a command wants out of the sandbox. `strict`: codex asks for every command. */
export type ApprovalMode = 'on-request' | 'strict'

/** Both take a path as a client says it and give it absolute, as codex sees it; both reject with OutsideWorkspace. */
export interface WorkspacePaths {
  /** For a directory to work in: one that is missing inside the workspace is made. */
  resolveDirectory(path: string): Promise<string>
  /** For a file or a filter: nothing is made. */
  resolvePath(path: string): Promise<string>
}

export interface GuardContext extends WorkspacePaths {
  method: string
  mode: ApprovalMode
  /** The native door: a filter outside the workspace is dropped instead of refused. */
  lenient: boolean
  /** What was taken out (see GuardedParams). */
  dropped: string[]
}

/** What every thread runs under, whoever asks. codex keeps overrides, also over a restart: so they are always sent. */
export function threadPolicy(mode: ApprovalMode) {
  return {
    approvalPolicy: mode === 'strict' ? 'untrusted' : 'on-request',
    approvalsReviewer: 'user',
    sandbox: 'workspace-write'
  }
}

/** The same for a turn, which takes the sandbox as an object. /tmp stays out of it: tenants may share it. */
export function turnPolicy(mode: ApprovalMode) {
  const { approvalPolicy, approvalsReviewer } = threadPolicy(mode)
  const sandboxPolicy = {
    type: 'workspaceWrite',
    writableRoots: [],
    networkAccess: false,
    excludeTmpdirEnvVar: true,
    excludeSlashTmp: true
  }
  return { approvalPolicy, approvalsReviewer, sandboxPolicy }
}

/** Runs one guard of a method's row over params that fit their schema, in place. */
export async function applyGuard(guard: Guard, params: JsonObject, context: GuardContext): Promise<void> {
  await GUARDS[guard](params, context)
}

const GUARDS: Record<Guard, (params: JsonObject, context: GuardContext) => Promise<void> | void> = {
  directory: async (params, context) => {
    if (typeof params.cwd === 'string') params.cwd = await confine(params.cwd, '/cwd', context, 'resolveDirectory')
  },
  workspace: async (params, context) => {
    const path = typeof params.cwd === 'string' ? params.cwd : '.'
    params.cwd = await confine(path, '/cwd', context, 'resolveDirectory')
  },
  lookup: confineLookup,
  lookups: confineLookups,
  input: confineInput,
  thread: (params, { mode }) => {
    Object.assign(params, threadPolicy(mode))
    // thread/start trusts a directory that config.toml does not name, and writes that down; it then starts the MCP
    // servers of its .codex/config.toml outside the sandbox, so a cloned repository would run its own commands unasked.
    if (typeof params.cwd === 'string') params.config = { projects: { [params.cwd]: { trust_level: 'untrusted' } } }
  },
  turn: (params, { mode }) => {
    Object.assign(params, turnPolicy(mode))
  }
}

/** A filter by directory: a path or an array of paths. */
async function confineLookup(params: JsonObject, context: GuardContext): Promise<void> {
  const { cwd } = params
  if (typeof cwd === 'string') {
    const [inside] = await confineFilters([cwd], () => '/cwd', context)
    params.cwd = inside ?? null
  }
  if (Array.isArray(cwd)) {
    const inside = await confineFilters(cwd, (index) => `/cwd/${index}`, context)
    params.cwd = inside.length > 0 ? inside : null
  }
}

/** Directories to look into: without one codex would take its own working directory, so the workspace is named. */
async function confineLookups(params: JsonObject, context: GuardContext): Promise<void> {
  const given = Array.isArray(params.cwds) ? params.cwds : []
  delete params.cwds
  // hooks/list takes a thread or directories, not both
  if (given.length === 0 && typeof params.threadId === 'string') return
  const inside = await confineFilters(given, (index) => `/cwds/${index}`, context)
  params.cwds = inside.length > 0 ? inside : [await context.resolvePath('.')]
}

async function confineInput(params: JsonObject, context: GuardContext): Promise<void> {
  const items = params.input as JsonObject[]
  params.input = await Promise.all(
    items.map(async (item, index) => {
      if (typeof item.path !== 'string') return item
      return { ...item, path: await confine(item.path, `/input/${index}/path`, context, 'resolvePath') }
    })
  )
}

async function confineFilters(
  paths: readonly string[],
  pointerOf: (index: number) => string,
  context: GuardContext
): Promise<string[]> {
  const inside: string[] = []
  for (const [index, path] of paths.entries()) {
    try {
      inside.push(await confine(path, pointerOf(index), context, 'resolvePath'))
    } catch (error) {
      if (!context.lenient || !(error instanceof OutsideWorkspace)) throw error
      context.dropped.push(fieldName(pointerOf(index)))
    }
  }
  return inside
}

/** How `dropped` names a field: a top-level one without its slash. */
function fieldName(at: string): string {
  return at.lastIndexOf('/') === 0 ? at.slice(1) : at
}

async function confine(path: string, at: string, context: GuardContext, how: keyof WorkspacePaths): Promise<string> {
  const details = { method: context.method, path: at }
  // app:// and plugin:// name things that are in no workspace, whatever a path resolver makes of them
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path)) throw withDetails(new OutsideWorkspace(path), details)
  try {
    return await context[how](path)
  } catch (error) {
    throw error instanceof OutsideWorkspace ? withDetails(error, details) : error
  }
}
