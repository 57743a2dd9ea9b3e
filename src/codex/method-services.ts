import * as Account from '../../schemas/methods/account.ts'
import { NoParamsSchema } from '../../schemas/methods/atoms.ts'
import * as Environment from '../../schemas/methods/environment.ts'
import * as Files from '../../schemas/methods/files.ts'
import { ModelListParamsSchema } from '../../schemas/methods/model.ts'
import * as Fields from './method-fields.ts'
import { answer, deny, forward, guard, type Method, X } from './method-row.ts'

const ACCOUNT = 'the account is the operator’s; the gateway logs in'
const CONFIG = 'the gateway writes the configuration'
const EXTENSIONS = 'plugins, apps and marketplaces bring code that nobody approved'
const FEEDBACK = 'it may send logs out of the house'
const FILES = 'it reads files of the host'
const HOST_COMMANDS = 'it runs commands outside the sandbox and without an approval'
const HOST_STATE = 'it shows or changes the state of the host'
const IDENTITY = 'it proves who a user is to the provider; here the gateway knows the user'
const IMPORT = 'it reads other programs’ configuration from the host'
const MCP = 'it speaks to MCP servers without a turn, so without an approval'
const REMOTE = 'it opens a second door into the process'
const SECRETS = 'it can return the token'
const UNUSED = 'nothing of the gateway needs it'

const skillsSpec = { guards: ['lookups'], fields: Fields.SKILLS_LIST_FIELDS } as const

/** Everything around threads: one row per method of the pinned binary. */
export const SERVICE_METHODS: readonly Method[] = [
  // The handshake
  answer('viewer', 'initialize', Environment.InitializeParamsSchema, { fields: Fields.INITIALIZE_FIELDS }),

  // Models, account, surroundings
  guard('viewer', 'model/list', ModelListParamsSchema, { fields: Fields.MODEL_LIST_FIELDS }),
  forward('viewer', 'modelProvider/capabilities/read', NoParamsSchema),
  guard('viewer', 'account/read', Account.AccountReadParamsSchema, { fields: Fields.ACCOUNT_READ_FIELDS }),
  guard('viewer', 'account/rateLimits/read', Account.AccountRateLimitsReadParamsSchema, {
    fields: Fields.RATE_LIMITS_FIELDS
  }),
  forward('viewer', 'account/usage/read', Account.AccountUsageReadParamsSchema),
  guard('viewer', 'permissionProfile/list', Environment.PermissionProfileListParamsSchema, { guards: ['lookup'] }),
  forward('viewer', 'experimentalFeature/list', Environment.ExperimentalFeatureListParamsSchema),
  forward('viewer', 'configRequirements/read', NoParamsSchema),
  guard('viewer', 'skills/list', Environment.SkillsListParamsSchema, skillsSpec),
  forward('user', 'mcpServerStatus/list', Environment.McpServerStatusListParamsSchema),

  // What an admin may look at. The TUI asks at its start, and without config/read it does not start: others get a
  // stand-in, which says what holds for everybody.
  guard('admin', 'config/read', Environment.ConfigReadParamsSchema, { guards: ['lookup'], standInFrom: 'viewer' }),
  guard('admin', 'hooks/list', Environment.HooksListParamsSchema, { guards: ['lookups'], standInFrom: 'viewer' }),
  guard('admin', 'plugin/list', Environment.PluginListParamsSchema, { guards: ['lookups'], standInFrom: 'viewer' }),
  answer('viewer', 'plugin/installed', Environment.PluginInstalledParamsSchema, { guards: ['lookups'] }),
  answer('viewer', 'account/bedrock/checkGovCloudRequirements', NoParamsSchema, { experimental: X }),

  // Files of the workspace: codex's own methods take any path of the host
  answer('viewer', 'fs/readFile', Files.FsPathParamsSchema),
  answer('viewer', 'fs/getMetadata', Files.FsPathParamsSchema),
  answer('viewer', 'fs/readDirectory', Files.FsPathParamsSchema),
  answer('viewer', 'fuzzyFileSearch', Files.FuzzyFileSearchParamsSchema),
  answer('viewer', 'fs/watch', Files.FsWatchParamsSchema),
  answer('viewer', 'fs/unwatch', Files.FsUnwatchParamsSchema),
  answer('viewer', 'fuzzyFileSearch/sessionStart', Files.SearchSessionStartParamsSchema, { experimental: X }),
  answer('viewer', 'fuzzyFileSearch/sessionUpdate', Files.SearchSessionUpdateParamsSchema, { experimental: X }),
  answer('viewer', 'fuzzyFileSearch/sessionStop', Files.SearchSessionStopParamsSchema, { experimental: X }),
  answer('user', 'fs/writeFile', Files.FsWriteFileParamsSchema),
  answer('user', 'fs/createDirectory', Files.FsCreateDirectoryParamsSchema),
  answer('user', 'fs/remove', Files.FsRemoveParamsSchema),
  answer('user', 'fs/copy', Files.FsCopyParamsSchema),

  // Denied: files and commands of the host
  deny('getConversationSummary', FILES),
  deny('gitDiffToRemote', FILES),
  deny('command/exec', HOST_COMMANDS),
  deny('command/exec/write', HOST_COMMANDS),
  deny('command/exec/terminate', HOST_COMMANDS),
  deny('command/exec/resize', HOST_COMMANDS),
  deny('process/spawn', HOST_COMMANDS, X),
  deny('process/writeStdin', HOST_COMMANDS, X),
  deny('process/kill', HOST_COMMANDS, X),
  deny('process/resizePty', HOST_COMMANDS, X),

  // Denied: the account and who the user is
  deny('account/login/start', ACCOUNT),
  deny('account/login/cancel', ACCOUNT),
  deny('account/logout', ACCOUNT),
  deny('account/gatewayOAuth/read', ACCOUNT),
  deny('account/gatewayOAuth/login', ACCOUNT),
  deny('account/gatewayOAuth/cancel', ACCOUNT),
  deny('account/bedrock/discover', ACCOUNT, X),
  deny('account/bedrock/setup', ACCOUNT, X),
  deny('account/gcp/setup', ACCOUNT, X),
  deny('account/rateLimitResetCredit/consume', ACCOUNT),
  deny('account/sendAddCreditsNudgeEmail', ACCOUNT),
  deny('account/securitySetup/read', ACCOUNT),
  deny('account/workspaceMessages/read', ACCOUNT),
  deny('accountSession/list', ACCOUNT, X),
  deny('accountSession/switch', ACCOUNT, X),
  deny('getAuthStatus', SECRETS),
  deny('userVerification/status', IDENTITY, X),
  deny('userVerification/enroll', IDENTITY, X),
  deny('userVerification/delete', IDENTITY, X),
  deny('userVerification/verify', IDENTITY, X),
  deny('userVerification/cancel', IDENTITY, X),

  // Denied: configuration
  deny('config/value/write', CONFIG),
  deny('config/batchWrite', CONFIG),
  deny('config/mcpServer/reload', CONFIG),
  deny('modelProvider/list', CONFIG),
  deny('modelProvider/config/write', CONFIG),
  deny('experimentalFeature/enablement/set', CONFIG),
  deny('skills/config/write', CONFIG),
  deny('skills/extraRoots/set', CONFIG),
  deny('environment/add', CONFIG, X),
  deny('environment/info', CONFIG, X),
  deny('environment/status', CONFIG, X),
  deny('externalAgentConfig/detect', IMPORT),
  deny('externalAgentConfig/import', IMPORT),
  deny('externalAgentConfig/import/recordHistory', IMPORT),
  deny('externalAgentConfig/import/readHistories', IMPORT),

  // Denied: extensions and MCP
  deny('marketplace/add', EXTENSIONS),
  deny('marketplace/remove', EXTENSIONS),
  deny('marketplace/upgrade', EXTENSIONS),
  deny('plugin/search', EXTENSIONS, X),
  deny('plugin/reconcile', EXTENSIONS),
  deny('plugin/read', EXTENSIONS),
  deny('plugin/skill/read', EXTENSIONS),
  deny('plugin/share/save', EXTENSIONS),
  deny('plugin/share/updateTargets', EXTENSIONS),
  deny('plugin/share/list', EXTENSIONS),
  deny('plugin/share/checkout', EXTENSIONS),
  deny('plugin/share/delete', EXTENSIONS),
  deny('plugin/install', EXTENSIONS),
  deny('plugin/uninstall', EXTENSIONS),
  deny('app/read', EXTENSIONS),
  deny('app/list', EXTENSIONS),
  deny('app/installed', EXTENSIONS),
  deny('mcpServer/oauth/login', MCP),
  deny('mcpServer/resource/read', MCP),
  deny('mcpServer/tool/call', MCP),
  deny('mcpServer/event/stream/start', MCP, X),
  deny('mcpServer/event/stream/stop', MCP, X),

  // Denied: the host and what leaves it
  deny('server/diagnostics', HOST_STATE, X),
  deny('windowsSandbox/setupStart', HOST_STATE),
  deny('windowsSandbox/readiness', HOST_STATE),
  deny('feedback/upload', FEEDBACK),
  deny('feedback/save', FEEDBACK),
  deny('remoteControl/enable', REMOTE, X),
  deny('remoteControl/disable', REMOTE, X),
  deny('remoteControl/status/read', REMOTE, X),
  deny('remoteControl/pairing/start', REMOTE, X),
  deny('remoteControl/pairing/status', REMOTE, X),
  deny('remoteControl/client/list', REMOTE, X),
  deny('remoteControl/client/revoke', REMOTE, X),
  deny('mock/experimentalMethod', UNUSED, X)
]
