import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { parse } from 'smol-toml'
import t from 'tap'
import { type CodexConfigOptions, renderCodexConfig, writeCodexConfig } from '../../src/codex/config-file.ts'
import { codexEnvironment } from '../../src/codex/environment.ts'
import { HomeTemplate } from '../../src/codex/home-template.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_730 })

const options: CodexConfigOptions = {
  provider: { baseUrl: 'http://127.0.0.1:1/v1', requiresLogin: true },
  workspace: '/w/one',
  mark: 'u1.m',
  commandPath: '/usr/bin:/bin'
}
const parsed = (overrides: Partial<CodexConfigOptions> = {}) => parse(renderCodexConfig({ ...options, ...overrides }))

t.test('config.toml says what the gateway counts on', async (t) => {
  t.match(parsed(), {
    approval_policy: 'on-request',
    sandbox_mode: 'workspace-write',
    cli_auth_credentials_store: 'ephemeral',
    web_search: 'disabled',
    check_for_update_on_startup: false,
    analytics: { enabled: false },
    feedback: { enabled: false },
    sandbox_workspace_write: { exclude_slash_tmp: true, exclude_tmpdir_env_var: true },
    shell_environment_policy: {
      inherit: 'core',
      ignore_default_excludes: false,
      set: {
        GIT_CONFIG_COUNT: '3',
        GIT_CONFIG_KEY_0: 'core.fsmonitor',
        GIT_CONFIG_VALUE_0: 'false',
        GIT_CONFIG_KEY_1: 'safe.bareRepository',
        GIT_CONFIG_VALUE_1: 'explicit',
        GIT_CONFIG_KEY_2: 'core.hooksPath',
        GIT_CONFIG_VALUE_2: '/dev/null',
        PATH: '/usr/bin:/bin',
        CLOUD_CODEX_PROCESS: 'u1.m'
      }
    },
    projects: { '/w/one': { trust_level: 'untrusted' } },
    features: { plugins: false, apps: false, shell_snapshot: false, memories: false, hooks: false }
  })
  t.notOk('model' in parsed())
  t.match(parsed({ model: 'm' }), {
    model: 'm',
    model_provider: 'gateway',
    model_providers: {
      gateway: {
        base_url: options.provider.baseUrl,
        wire_api: 'responses',
        requires_openai_auth: true,
        request_max_retries: 0,
        supports_websockets: false
      }
    }
  })
})

t.test('no text can break out of its place in config.toml', async (t) => {
  const text = fc.string({ unit: 'binary', minLength: 1 })
  const expected = Object.keys(parsed({ model: 'm' }))
    .sort()
    .join()
  fc.assert(
    fc.property(text, text, text, (model, workspace, commandPath) => {
      const config = parsed({ model, workspace, commandPath })
      const { set } = config.shell_environment_policy as unknown as { set: { PATH: string } }
      return (
        config.model === model &&
        JSON.stringify(config.projects) === JSON.stringify({ [workspace]: { trust_level: 'untrusted' } }) &&
        set.PATH === commandPath &&
        Object.keys(config).sort().join() === expected
      )
    })
  )
  t.pass()
})

t.test('it is written whole or not at all, and for its owner alone', async (t) => {
  const home = t.testdir()
  await Promise.all(
    Array.from({ length: 20 }, (_, index) => writeCodexConfig(home, { ...options, model: `m${index}` }))
  )
  t.strictSame(await readdir(home), ['config.toml'], 'no draft is left')
  t.match(parse(await readFile(join(home, 'config.toml'), 'utf8')).model, /^m\d+$/)
  t.equal((await stat(join(home, 'config.toml'))).mode & 0o777, 0o600)
})

t.test('codex’s environment is an allow-list', async (t) => {
  const directories = { codexHome: '/c', home: '/h', workspace: '/w' }
  const environment = (gatewayEnv: Record<string, string>) =>
    codexEnvironment({ directories, mark: 'u1.m', shimDirectory: '/shims', gatewayEnv })
  const secrets = ['OPENAI_API_KEY', 'JWT_SECRET', 'REDIS_URL', 'AUDIT_KEY', 'SECRET_KEY', 'WEBHOOK_SECRET', 'FOO']
  const overrides = ['CODEX_HOME', 'HOME', 'NODE_OPTIONS', 'LD_PRELOAD', 'BASH_ENV', 'CLOUD_CODEX_PROCESS']
  const gatewayEnv = Object.fromEntries([...secrets, ...overrides].map((name) => [name, 'from the gateway']))
  const made = environment({ ...gatewayEnv, PATH: '/usr/bin', LANG: 'C.UTF-8' })
  t.notMatch(JSON.stringify(made), 'from the gateway')
  t.match(made, { PATH: '/shims:/usr/bin', HOME: '/h', CODEX_HOME: '/c', CLOUD_CODEX_PROCESS: 'u1.m', LANG: 'C.UTF-8' })
  t.match(environment({}).PATH, /^\/shims:.*\/usr\/bin/)
})

t.test('the template home', async (t) => {
  const fill = async (home: string) => {
    await writeFile(join(home, 'state.sqlite'), 'migrated')
    await mkdir(join(home, 'cache'))
    await writeFile(join(home, 'cache', 'models.json'), '[]')
    for (const name of ['installation_id', 'config.toml', 'auth.json'])
      await writeFile(join(home, name), 'of the template')
    for (const name of ['tmp', 'log', 'sessions']) await mkdir(join(home, name))
  }

  await t.test('is made once, and copied without what names the home it was made in', async (t) => {
    const root = t.testdir({ alice: {} })
    const template = new HomeTemplate(join(root, 'template'))
    t.teardown(() => template.close())
    let fills = 0
    const counted = (home: string) => {
      fills++
      return fill(home)
    }
    await Promise.all([template.prepare(counted), template.prepare(counted)])
    await template.seed(join(root, 'alice'))
    t.strictSame((await readdir(join(root, 'alice'))).sort(), ['cache', 'state.sqlite'])
    t.equal((await stat(join(root, 'template'))).mode & 0o777, 0o700)
    const again = new HomeTemplate(join(root, 'template'))
    t.teardown(() => again.close())
    await again.prepare(counted)
    t.equal(fills, 1)
  })

  await t.test('leaves a home that has been used alone', async (t) => {
    const root = t.testdir({ used: { 'history.jsonl': 'mine' } })
    const template = new HomeTemplate(join(root, 'template'))
    t.teardown(() => template.close())
    await template.prepare(fill)
    await template.seed(join(root, 'used'))
    t.strictSame(await readdir(join(root, 'used')), ['history.jsonl'])
  })

  await t.test('a run that fails leaves nothing that could be copied', async (t) => {
    const root = t.testdir({ alice: {} })
    const template = new HomeTemplate(join(root, 'template'))
    t.teardown(() => template.close())
    const failing = async (home: string) => {
      await writeFile(join(home, 'half'), '')
      throw new Error('codex ended')
    }
    await t.rejects(template.prepare(failing), /codex ended/)
    await template.seed(join(root, 'alice'))
    t.strictSame(await readdir(join(root, 'alice')), [])
    t.strictSame(await readdir(root), ['alice'])
  })
})
