import type { JsonObject } from '../json.ts'

/** The keys that codex's answer always has, whatever is configured (0.169). */
const CONFIG_KEYS = [
  'model',
  'review_model',
  'model_context_window',
  'model_auto_compact_token_limit',
  'model_auto_compact_token_limit_scope',
  'model_provider',
  'approvals_reviewer',
  'sandbox_workspace_write',
  'forced_chatgpt_workspace_id',
  'forced_login_method',
  'client_search_provider',
  'tools',
  'instructions',
  'developer_instructions',
  'compact_prompt',
  'model_reasoning_effort',
  'model_reasoning_summary',
  'model_verbosity',
  'service_tier',
  'analytics',
  'apps',
  'browser_use',
  'computer_use',
  'desktop'
]

type StandIn = (params: JsonObject, workspace: string) => JsonObject

/**
 * What the gateway says in codex's place, in codex's shapes: true of every user (the codex home is written so), empty
 * where codex would tell of the operator's account, of plugins or of the host.
 */
const STAND_INS: Record<string, StandIn> = {
  'config/read': ({ includeLayers }) => ({
    config: {
      ...Object.fromEntries(CONFIG_KEYS.map((key) => [key, null])),
      approval_policy: 'on-request',
      sandbox_mode: 'workspace-write',
      web_search: 'disabled'
    },
    origins: {},
    ...(includeLayers === true ? { layers: [] } : {})
  }),
  // one entry for each directory, or the client takes the answer for incomplete
  'hooks/list': ({ cwds }, workspace) => ({
    data: (Array.isArray(cwds) ? cwds : [workspace]).map((cwd) => ({ cwd, hooks: [], warnings: [], errors: [] }))
  }),
  'plugin/list': () => ({ marketplaces: [], marketplaceLoadErrors: [], featuredPluginIds: [] }),
  'plugin/installed': () => ({ marketplaces: [], marketplaceLoadErrors: [] }),
  'account/bedrock/checkGovCloudRequirements': () => ({ isGovCloud: false, shouldWarn: false })
}

/** The stand-in for codex's answer to guarded params; undefined when the method has none. */
export function standInFor(method: string, params: JsonObject, workspace: string): JsonObject | undefined {
  return Object.hasOwn(STAND_INS, method) ? STAND_INS[method]?.(params, workspace) : undefined
}
