import t from 'tap'
import { EnvironmentSchema, loadConfig } from '../config.ts'

const SECRET = 'a secret of the tests, and long enough'
const invalid = (message: RegExp) => ({ code: 'CC_CONFIG_INVALID', message })

t.test('nothing set: development and demo mode, on loopback', async (t) => {
  t.match(loadConfig({}), {
    port: 3000,
    host: '127.0.0.1',
    dataDir: /\/\.cloud-codex$/,
    workspaceRoot: /\/\.cloud-codex\/workspaces$/,
    auth: { mode: 'development' },
    model: { mode: 'demo' },
    approval: { timeoutMs: 300_000, maxMs: 3_600_000, mode: 'on-request' },
    idleTimeoutMs: 900_000,
    shutdownTimeoutMs: 5_000,
    heartbeatMs: 30_000,
    corsOrigins: [],
    logLevel: 'info'
  })
  t.ok(loadConfig({}).maxProcesses >= 4)
})

t.test('an empty variable is an unset one', async (t) => {
  const names = Object.keys(EnvironmentSchema.properties)
  t.strictSame(loadConfig(Object.fromEntries(names.map((name) => [name, '']))), loadConfig({}))
  t.strictSame(loadConfig({ JWT_SECRET: undefined, SOMETHING_ELSE: 'x' }), loadConfig({}))
})

t.test('a value that cannot be is refused, and the message names its variable', async (t) => {
  for (const [name, value] of [
    ['PORT', 'http'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '3000.5'],
    ['APPROVAL_MODE', 'never'],
    ['APPROVAL_TIMEOUT_MS', '5m'],
    ['APPROVAL_TIMEOUT_MS', '0'],
    ['APPROVAL_TIMEOUT_MS', '2147483648'],
    ['ISOLATION', 'magic'],
    ['ISOLATION_READABLE', 'opt/tools'],
    ['ISOLATION_READABLE', '/opt/tools:/'],
    ['MAX_PROCESSES', '0'],
    ['REQUEST_TIMEOUT_MS', '1'],
    ['IDLE_TIMEOUT_MS', 'Infinity'],
    ['SHUTDOWN_TIMEOUT_MS', '100'],
    ['JOURNAL_MAX_EVENTS', '0'],
    ['JOURNAL_MAX_BYTES', '1'],
    ['HEARTBEAT_MS', '0'],
    ['LOG_LEVEL', 'loud']
  ] as const) {
    t.throws(() => loadConfig({ [name]: value }), invalid(new RegExp(name)), `${name}=${value}`)
  }
})

t.test('a choice that is none names the choices', async (t) => {
  t.throws(() => loadConfig({ APPROVAL_MODE: 'never' }), invalid(/APPROVAL_MODE must be one of on-request, strict$/))
})

t.test('auth: one kind of key, and no short secret; the message never repeats it', async (t) => {
  t.throws(() => loadConfig({ JWT_SECRET: 'too short' }), invalid(/^((?!too short).)*openssl rand/))
  t.throws(() => loadConfig({ JWT_SECRET: SECRET, JWT_JWKS_URL: 'https://id.example/jwks' }), invalid(/not both/))
  t.match(loadConfig({ JWT_SECRET: SECRET, JWT_ISSUER: 'i', JWT_AUDIENCE: 'a' }).auth, {
    mode: 'jwt',
    key: { secret: SECRET },
    issuer: 'i',
    audience: 'a'
  })
  const jwksUrl = 'https://id.example/jwks'
  t.match(loadConfig({ JWT_JWKS_URL: jwksUrl }).auth, { mode: 'jwt', key: { jwksUrl } })
  for (const bad of ['not a url', 'ftp://id.example/jwks', 'file:///etc/passwd']) {
    t.throws(() => loadConfig({ JWT_JWKS_URL: bad }), invalid(/JWT_JWKS_URL/), bad)
  }
})

t.test('without auth, or with the scripted model, only loopback is listened on', async (t) => {
  const auth = { JWT_SECRET: SECRET }
  const model = { OPENAI_API_KEY: 'sk-x' }
  for (const variables of [{}, auth, model]) {
    t.equal(loadConfig(variables).host, '127.0.0.1')
    for (const HOST of ['0.0.0.0', '::', '10.0.0.1', 'example.org']) {
      t.throws(() => loadConfig({ ...variables, HOST }), invalid(/HOST .* is not loopback/), HOST)
    }
    for (const HOST of ['127.0.0.1', '::1', 'localhost']) t.equal(loadConfig({ ...variables, HOST }).host, HOST)
  }
  t.equal(loadConfig({ ...auth, ...model }).host, '0.0.0.0')
  t.equal(loadConfig({ ...auth, ...model, HOST: '10.0.0.1' }).host, '10.0.0.1')
})

t.test('the model: demo unless a key or an address is set, and never in production', async (t) => {
  t.throws(() => loadConfig({ NODE_ENV: 'production' }), invalid(/demo mode is refused/))
  t.match(loadConfig({ NODE_ENV: 'production', OPENAI_API_KEY: 'k' }).model, { mode: 'openai', apiKey: 'k' })
  const MODEL_BASE_URL = 'http://127.0.0.1:1/v1'
  t.strictSame(loadConfig({ MODEL_BASE_URL, MODEL: 'm', MODEL_TIMEOUT_MS: '500' }).model, {
    mode: 'custom',
    timeoutMs: 500,
    baseUrl: MODEL_BASE_URL,
    name: 'm'
  })
  t.match(loadConfig({ MODEL_BASE_URL, OPENAI_API_KEY: 'k' }).model, { mode: 'custom', apiKey: 'k' })
  for (const bad of ['nonsense', 'ftp://x/v1']) {
    t.throws(() => loadConfig({ MODEL_BASE_URL: bad }), invalid(/MODEL_BASE_URL/), bad)
  }
})

t.test('lists and paths', async (t) => {
  const { corsOrigins, dataDir, workspaceRoot } = loadConfig({
    CORS_ORIGINS: ' https://a.example, ,https://b.example ',
    DATA_DIR: '/srv/data/../cc',
    WORKSPACE_ROOT: '/srv/work'
  })
  t.strictSame(corsOrigins, ['https://a.example', 'https://b.example'])
  t.equal(dataDir, '/srv/cc')
  t.equal(workspaceRoot, '/srv/work')
})

t.test('every variable has a description, which the README’s table is made of', async (t) => {
  for (const [name, schema] of Object.entries(EnvironmentSchema.properties)) {
    t.match(schema, { description: /\w/ }, name)
  }
})
