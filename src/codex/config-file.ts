import { randomUUID } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PROCESS_MARK } from '../isolation/process-tree.ts'

/** The Responses-API endpoint that codex talks to. */
export interface ModelProvider {
  baseUrl: string
  /** Whether codex sends it a token, the one of account/login/start. */
  requiresLogin: boolean
}

export interface CodexConfigOptions {
  provider: ModelProvider
  /** Default model; codex's own default when undefined. */
  model?: string
  /** The user's workspace as codex sees it. */
  workspace: string
  mark: string
  /** PATH of the commands that the agent runs. */
  commandPath: string
}

/** What a team service does not offer, or what would call out, start programs unasked or wake an idle process. */
const FEATURES_OFF = [
  'plugins',
  'remote_plugin',
  'plugin_sharing',
  'apps',
  'shell_snapshot',
  'skill_search',
  'tool_suggest',
  'memories',
  'hooks',
  'browser_use',
  'computer_use',
  'in_app_browser',
  'image_generation',
  'workspace_dependencies',
  'code_mode_host',
  'daemon_auto_start',
  // On, a turn whose model endpoint refuses connections retries for ever; off, it fails after codex's usual retries.
  // An endpoint that accepts and stays silent would still hang it (codex waits for headers without limit); the broker
  // does not.
  'unbounded_connection_retries'
]

/** git runs helpers that a repository names; these settings, which beat the repository's, switch them off. */
const GIT_HARDENING = [
  ['core.fsmonitor', 'false'],
  ['safe.bareRepository', 'explicit'],
  ['core.hooksPath', '/dev/null']
] as const

/** Writes `config.toml` into a codex home, atomically: codex reads it again at every thread start. */
export async function writeCodexConfig(codexHome: string, options: CodexConfigOptions): Promise<void> {
  const file = join(codexHome, 'config.toml')
  const draft = `${file}.${randomUUID()}`
  await writeFile(draft, renderCodexConfig(options), { mode: 0o600 })
  await rename(draft, file)
}

/** The text of `config.toml` (source of each setting: PROTOCOL facts of codex 0.169). */
export function renderCodexConfig(options: CodexConfigOptions): string {
  return [
    ...(options.model === undefined ? [] : [`model = ${quote(options.model)}`]),
    'model_provider = "gateway"',
    'approval_policy = "on-request"',
    'sandbox_mode = "workspace-write"',
    'check_for_update_on_startup = false',
    'web_search = "disabled"',
    'cli_auth_credentials_store = "ephemeral"',
    renderProvider(options.provider),
    table('analytics', ['enabled = false']),
    table('feedback', ['enabled = false']),
    // /tmp is shared by all users of the host: a writable /tmp would be a way from one user to another.
    table('sandbox_workspace_write', ['exclude_slash_tmp = true', 'exclude_tmpdir_env_var = true']),
    table('shell_environment_policy', ['inherit = "core"', 'ignore_default_excludes = false']),
    table('shell_environment_policy.set', renderCommandEnvironment(options)),
    // codex trusts a directory it has no word about, and runs what its .codex/config.toml names. This is for the
    // workspace itself; for directories below it the same goes with each thread (see method-guards.ts).
    table(`projects.${quote(options.workspace)}`, ['trust_level = "untrusted"']),
    table(
      'features',
      FEATURES_OFF.map((feature) => `${feature} = false`)
    )
  ].join('\n')
}

function renderProvider({ baseUrl, requiresLogin }: ModelProvider): string {
  return table('model_providers.gateway', [
    'name = "gateway"',
    `base_url = ${quote(baseUrl)}`,
    'wire_api = "responses"',
    `requires_openai_auth = ${requiresLogin}`,
    // codex tries a stream again, five times, and by default the request in each of these, five times: 30 requests in a
    // row to an endpoint that says 500.
    'request_max_retries = 0',
    'supports_websockets = false'
  ])
}

function renderCommandEnvironment({ mark, commandPath }: CodexConfigOptions): string[] {
  const git = GIT_HARDENING.flatMap(([key, value], index) => [
    `GIT_CONFIG_KEY_${index} = ${quote(key)}`,
    `GIT_CONFIG_VALUE_${index} = ${quote(value)}`
  ])
  return [
    `GIT_CONFIG_COUNT = "${GIT_HARDENING.length}"`,
    ...git,
    'GIT_OPTIONAL_LOCKS = "0"',
    // A config file of ripgrep can name a preprocessor, a program that runs for each file searched.
    'RIPGREP_CONFIG_PATH = ""',
    `PATH = ${quote(commandPath)}`,
    `${PROCESS_MARK} = ${quote(mark)}`
  ]
}

function table(name: string, lines: string[]): string {
  return [`[${name}]`, ...lines].join('\n')
}

/** A TOML basic string; JSON's escapes are a subset of TOML's, save that TOML wants DEL escaped too. */
function quote(text: string): string {
  return JSON.stringify(text).replaceAll('\u007f', '\\u007F')
}
