import { totalmem } from 'node:os'
import { resolve } from 'node:path'
import { envSchema } from 'env-schema'
import { type Static, Type } from 'typebox'
import { ConfigInvalid } from './errors.ts'

const MIB = 1024 * 1024
/** What one user's codex process and the commands it runs are expected to need, for the default of MAX_PROCESSES. */
const MEMORY_PER_PROCESS_BYTES = 64 * MIB
const LOOPBACK_HOSTS = new Set(['127.0.0.1', '::1', 'localhost'])

const optional = (description: string) => Type.Optional(Type.String({ description }))
const choice = <const T extends readonly string[]>(values: T, fallback: T[number], description: string) =>
  Type.Unsafe<T[number]>({ type: 'string', enum: [...values], default: fallback, description })
const milliseconds = (description: string, fallback: number, minimum = 0) =>
  Type.Integer({ description, default: fallback, minimum, maximum: 2_147_483_647 })

/** Every environment variable that the gateway reads, with its default and meaning. The README's table is made of it. */
export const EnvironmentSchema = Type.Object({
  PORT: Type.Integer({
    description: 'Port to listen on; 0 picks a free one',
    default: 3000,
    minimum: 0,
    maximum: 65535
  }),
  HOST: optional('Address to listen on; default 127.0.0.1 without auth or in demo mode, else 0.0.0.0'),
  DATA_DIR: Type.String({
    description: 'Where codex homes, the audit log and the store lie',
    default: './.cloud-codex'
  }),
  WORKSPACE_ROOT: optional('Where the users’ workspaces lie; default DATA_DIR/workspaces'),
  OPENAI_API_KEY: optional('Model key; stays in the gateway: codex processes have tokens of their own'),
  MODEL_BASE_URL: optional('Any Responses-API endpoint; default OpenAI’s. Without it and without a key: demo mode'),
  MODEL_TIMEOUT_MS: milliseconds(
    'How long the model endpoint may be silent before its answer counts as failed',
    300_000,
    100
  ),
  MODEL: optional('Default model; codex’s own default when unset'),
  JWT_SECRET: optional('HS256 secret for tokens, at least 32 characters'),
  JWT_JWKS_URL: optional('JWKS address for RS256, ES256 and EdDSA tokens, instead of JWT_SECRET'),
  JWT_ISSUER: optional('Required `iss` of tokens'),
  JWT_AUDIENCE: optional('Required `aud` of tokens'),
  REDIS_URL: optional('Redis for session state; unset: an embedded store under DATA_DIR'),
  CODEX_BIN: optional('codex binary (path, or name on PATH); default the pinned dependency'),
  ISOLATION: choice(
    ['auto', 'bubblewrap', 'none'],
    'auto',
    'How users’ processes are kept apart; `auto`: bubblewrap where it passes its test at boot, else none, which NODE_ENV=production refuses; `none`: not at all'
  ),
  ISOLATION_READABLE: optional('Further host paths that isolated processes may read, separated by colons'),
  POLICY_FILE: optional('Approval policy (JSON); unset: the built-in policy'),
  LIMITS_FILE: optional('Prices of models, and what each user may use (JSON); unset: no limits'),
  APPROVAL_TIMEOUT_MS: milliseconds('How long an approval waits for an answer', 300_000, 1_000),
  APPROVAL_MAX_MS: milliseconds('How long it may wait at most, extensions included', 3_600_000, 1_000),
  APPROVAL_MODE: choice(
    ['on-request', 'strict'],
    'on-request',
    '`on-request`: codex asks when a command wants out of its sandbox; `strict`: it asks for every command'
  ),
  MAX_PROCESSES: Type.Optional(Type.Integer({ description: 'codex processes at once; default by memory', minimum: 1 })),
  REQUEST_TIMEOUT_MS: milliseconds('How long codex may take to answer a request', 60_000, 100),
  IDLE_TIMEOUT_MS: milliseconds('A process with nothing to do for this long is stopped', 900_000, 100),
  MEMORY_RESERVE_BYTES: Type.Optional(
    Type.Integer({
      description:
        'With less memory available, idle processes are stopped before IDLE_TIMEOUT_MS; default a 16th, 512 MiB at most',
      minimum: 0
    })
  ),
  DRAIN_TIMEOUT_MS: milliseconds('How long running turns may go on after SIGTERM; a second one ends the wait', 0),
  SHUTDOWN_TIMEOUT_MS: milliseconds('Everything is closed within this after the drain', 5_000, 4_000),
  HEARTBEAT_MS: milliseconds('Interval of WebSocket pings; a dead socket is dropped within two', 30_000, 50),
  CLIENT_STALL_TIMEOUT_MS: milliseconds(
    'A client of whose backlog no byte can be sent for this long is closed (4408); a slow one is not',
    60_000,
    200
  ),
  FILE_MAX_BYTES: Type.Integer({
    description: 'The largest file that PUT /api/files/content takes',
    default: 100 * MIB,
    minimum: 1
  }),
  JOURNAL_MAX_EVENTS: Type.Integer({ description: 'Events kept per user for replay', default: 100_000, minimum: 1 }),
  JOURNAL_MAX_BYTES: Type.Integer({ description: 'The same in bytes', default: 32 * MIB, minimum: 1024 }),
  JOURNAL_MAX_AGE_MS: milliseconds('The same in age', 86_400_000, 1_000),
  CORS_ORIGINS: optional('Origins of browser clients on other hosts, separated by commas'),
  WEBHOOK_URL: optional('Where approvals are told, as signed POSTs; its receiver can decide them'),
  WEBHOOK_SECRET: optional('Signs them (HMAC-SHA256), at least 32 characters'),
  PUBLIC_URL: optional('Where people reach this gateway, for links in webhooks; unset: tokens without links'),
  AUDIT_KEY: optional('Key that signs the audit log’s checkpoints'),
  LOG_LEVEL: choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info', 'pino level'),
  NODE_ENV: optional('`production` refuses demo mode, and ISOLATION=auto where nothing isolates')
})
type Environment = Static<typeof EnvironmentSchema>

export type AuthConfig = { mode: 'development' } | JwtConfig
export interface JwtConfig {
  mode: 'jwt'
  key: { secret: string } | { jwksUrl: string }
  issuer: string | undefined
  audience: string | undefined
}

export interface Config {
  port: number
  host: string
  dataDir: string
  workspaceRoot: string
  auth: AuthConfig
  /** Demo: a scripted model inside the gateway answers. */
  model: { mode: 'demo' | 'openai' | 'custom'; baseUrl?: string; apiKey?: string; name?: string; timeoutMs: number }
  redisUrl: string | undefined
  codexBin: string | undefined
  isolation: { mode: 'auto' | 'bubblewrap' | 'none'; readablePaths: string[] }
  isProduction: boolean
  policyFile: string | undefined
  limitsFile: string | undefined
  approval: { timeoutMs: number; maxMs: number; mode: 'on-request' | 'strict' }
  maxProcesses: number
  requestTimeoutMs: number
  idleTimeoutMs: number
  memoryReserveBytes: number
  drainTimeoutMs: number
  shutdownTimeoutMs: number
  heartbeatMs: number
  clientStallTimeoutMs: number
  fileMaxBytes: number
  journal: { maxEvents: number; maxBytes: number; maxAgeMs: number }
  corsOrigins: string[]
  webhook: { url: string; secret: string } | undefined
  /** Without a slash at its end. */
  publicUrl: string | undefined
  auditKey: string | undefined
  logLevel: string
}

/** Reads the configuration out of environment variables. Throws ConfigInvalid, which names the variable and its mend. */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const vars = readEnvironment(env)
  const auth = readAuth(vars)
  const model = readModel(vars)
  const dataDir = resolve(vars.DATA_DIR)
  return {
    port: vars.PORT,
    host: readHost(vars, auth, model),
    dataDir,
    workspaceRoot: resolve(vars.WORKSPACE_ROOT ?? `${dataDir}/workspaces`),
    auth,
    model,
    redisUrl: vars.REDIS_URL,
    codexBin: vars.CODEX_BIN,
    limitsFile: vars.LIMITS_FILE,
    isolation: { mode: vars.ISOLATION, readablePaths: readReadable(vars) },
    isProduction: vars.NODE_ENV === 'production',
    policyFile: vars.POLICY_FILE,
    approval: { timeoutMs: vars.APPROVAL_TIMEOUT_MS, maxMs: vars.APPROVAL_MAX_MS, mode: vars.APPROVAL_MODE },
    maxProcesses: vars.MAX_PROCESSES ?? defaultMaxProcesses(),
    requestTimeoutMs: vars.REQUEST_TIMEOUT_MS,
    idleTimeoutMs: vars.IDLE_TIMEOUT_MS,
    memoryReserveBytes: vars.MEMORY_RESERVE_BYTES ?? Math.floor(Math.min(memoryLimit() / 16, 512 * MIB)),
    drainTimeoutMs: vars.DRAIN_TIMEOUT_MS,
    shutdownTimeoutMs: vars.SHUTDOWN_TIMEOUT_MS,
    heartbeatMs: vars.HEARTBEAT_MS,
    clientStallTimeoutMs: vars.CLIENT_STALL_TIMEOUT_MS,
    fileMaxBytes: vars.FILE_MAX_BYTES,
    journal: {
      maxEvents: vars.JOURNAL_MAX_EVENTS,
      maxBytes: vars.JOURNAL_MAX_BYTES,
      maxAgeMs: vars.JOURNAL_MAX_AGE_MS
    },
    corsOrigins: (vars.CORS_ORIGINS ?? '').split(',').flatMap((origin) => origin.trim() || []),
    webhook: readWebhook(vars),
    publicUrl: readPublicUrl(vars),
    auditKey: vars.AUDIT_KEY,
    logLevel: vars.LOG_LEVEL
  }
}

function readEnvironment(env: Readonly<Record<string, string | undefined>>): Environment {
  // An empty variable (`JWT_SECRET=` in a compose file) means unset, never "the empty secret".
  const data = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''))
  let vars: Environment
  try {
    vars = envSchema<Environment>({ schema: EnvironmentSchema, data, env: false })
  } catch (error) {
    throw new ConfigInvalid(describeFault(error as EnvSchemaError))
  }
  for (const [name, value] of Object.entries(vars)) {
    // "Infinity" passes the schema's bounds, and a timer of that length fires at once.
    if (typeof value === 'number' && !Number.isFinite(value)) throw new ConfigInvalid(`${name} must be integer`)
  }
  for (const name of ['JWT_JWKS_URL', 'MODEL_BASE_URL'] as const) {
    const value = vars[name]
    if (value !== undefined && !/^https?:$/.test(URL.canParse(value) ? new URL(value).protocol : '')) {
      throw new ConfigInvalid(`${name} must be an http or https URL`)
    }
  }
  return vars
}

function readAuth(vars: Environment): AuthConfig {
  const { JWT_SECRET: secret, JWT_JWKS_URL: jwksUrl } = vars
  if (secret !== undefined && jwksUrl !== undefined) throw new ConfigInvalid('set JWT_SECRET or JWT_JWKS_URL, not both')
  if (secret === undefined && jwksUrl === undefined) return { mode: 'development' }
  if (secret !== undefined && secret.length < 32) {
    throw new ConfigInvalid('JWT_SECRET must have at least 32 characters; make one with: openssl rand -base64 48')
  }
  const key = secret === undefined ? { jwksUrl: jwksUrl as string } : { secret }
  return { mode: 'jwt', key, issuer: vars.JWT_ISSUER, audience: vars.JWT_AUDIENCE }
}

function readModel(vars: Environment): Config['model'] {
  const { MODEL_BASE_URL: baseUrl, OPENAI_API_KEY: apiKey, MODEL: name } = vars
  const mode = baseUrl !== undefined ? 'custom' : apiKey !== undefined ? 'openai' : 'demo'
  if (mode === 'demo' && vars.NODE_ENV === 'production') {
    throw new ConfigInvalid('demo mode is refused with NODE_ENV=production; set OPENAI_API_KEY or MODEL_BASE_URL')
  }
  return {
    mode,
    timeoutMs: vars.MODEL_TIMEOUT_MS,
    ...(baseUrl === undefined ? {} : { baseUrl }),
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(name === undefined ? {} : { name })
  }
}

function readReadable({ ISOLATION_READABLE: text = '' }: Environment): string[] {
  const paths = text.split(':').filter((path) => path !== '')
  const wrong = paths.find((path) => !path.startsWith('/') || resolve(path) !== path || path === '/')
  if (wrong !== undefined) throw new ConfigInvalid(`ISOLATION_READABLE: "${wrong}" is not a plain absolute path`)
  return paths
}

function readWebhook({ WEBHOOK_URL: url, WEBHOOK_SECRET: secret }: Environment): Config['webhook'] {
  if (url === undefined && secret === undefined) return undefined
  if (url === undefined) throw new ConfigInvalid('WEBHOOK_SECRET needs WEBHOOK_URL')
  readHttpUrl('WEBHOOK_URL', url)
  if (secret === undefined || secret.length < 32) {
    throw new ConfigInvalid(
      'WEBHOOK_URL needs a WEBHOOK_SECRET of at least 32 characters; make one with: openssl rand -base64 48'
    )
  }
  return { url, secret }
}

function readPublicUrl({ PUBLIC_URL: text }: Environment): string | undefined {
  if (text === undefined) return undefined
  const { origin, pathname, search, hash } = readHttpUrl('PUBLIC_URL', text)
  if (search !== '' || hash !== '') throw new ConfigInvalid('PUBLIC_URL takes no query and no fragment')
  return `${origin}${pathname}`.replace(/\/+$/, '')
}

/** The message never repeats the URL: its path may be a secret. */
function readHttpUrl(name: string, text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new ConfigInvalid(`${name} must be an http or https URL without a user name or password in it`)
  }
  return url
}

/** Without auth, or with the scripted model, anybody who reaches the port is a user: loopback only. */
function readHost(vars: Environment, auth: AuthConfig, model: Config['model']): string {
  const mustBeLoopback = auth.mode === 'development' || model.mode === 'demo'
  const host = vars.HOST ?? (mustBeLoopback ? '127.0.0.1' : '0.0.0.0')
  if (mustBeLoopback && !LOOPBACK_HOSTS.has(host)) {
    throw new ConfigInvalid(
      `HOST ${host} is not loopback; set JWT_SECRET or JWT_JWKS_URL, and OPENAI_API_KEY or MODEL_BASE_URL, to serve others`
    )
  }
  return host
}

/** By half of the memory that this process may use. */
function defaultMaxProcesses(): number {
  return Math.max(4, Math.floor(memoryLimit() / 2 / MEMORY_PER_PROCESS_BYTES))
}

/** A container's limit counts, not the host's size. */
function memoryLimit(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY)
}

interface EnvSchemaError extends Error {
  errors?: { instancePath: string; keyword: string; params: { allowedValues?: string[] } }[]
}

function describeFault({ message, errors }: EnvSchemaError): string {
  const [first] = errors ?? []
  if (first?.keyword !== 'enum') return message.replaceAll('env/', '')
  return `${first.instancePath.slice(1)} must be one of ${first.params.allowedValues?.join(', ')}`
}
