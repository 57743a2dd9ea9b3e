import { Type } from 'typebox'
import { IdSchema } from '../common.ts'
import { CLOSED, CursorSchema, IdsSchema, LimitSchema, NameSchema, orNull, PathSchema } from './atoms.ts'

/** What surrounds a thread: skills, features, profiles, MCP servers, and what an admin may look at. */

const pageFields = { cursor: orNull(CursorSchema), limit: orNull(LimitSchema) }
const DirectoriesSchema = Type.Array(PathSchema, { maxItems: 32 })

export const SkillsListParamsSchema = Type.Object(
  { cwds: Type.Optional(DirectoriesSchema), forceReload: Type.Optional(Type.Boolean()) },
  CLOSED
)

export const ExperimentalFeatureListParamsSchema = Type.Object({ ...pageFields, threadId: orNull(IdSchema) }, CLOSED)

export const PermissionProfileListParamsSchema = Type.Object({ ...pageFields, cwd: orNull(PathSchema) }, CLOSED)

export const McpServerStatusListParamsSchema = Type.Object(
  {
    ...pageFields,
    detail: orNull(Type.Enum(['full', 'toolsAndAuthOnly'])),
    serverName: orNull(NameSchema),
    threadId: orNull(IdSchema)
  },
  CLOSED
)

export const ConfigReadParamsSchema = Type.Object(
  { cwd: orNull(PathSchema), includeLayers: Type.Optional(Type.Boolean()) },
  CLOSED
)

export const HooksListParamsSchema = Type.Object(
  { cwds: Type.Optional(DirectoriesSchema), threadId: orNull(IdSchema) },
  CLOSED
)

export const PluginListParamsSchema = Type.Object(
  {
    cwds: orNull(DirectoriesSchema),
    forceRefetch: Type.Optional(Type.Boolean()),
    marketplaceKinds: orNull(
      Type.Array(Type.Enum(['local', 'vertical', 'workspace-directory', 'shared-with-me', 'created-by-me-remote']), {
        maxItems: 8
      })
    )
  },
  CLOSED
)

export const PluginInstalledParamsSchema = Type.Object(
  {
    cwds: orNull(DirectoriesSchema),
    installSuggestionPluginNames: orNull(Type.Array(NameSchema, { maxItems: 100 }))
  },
  CLOSED
)

/** The handshake of the native door; the gateway answers it, codex hears the gateway's own. */
export const InitializeParamsSchema = Type.Object(
  {
    clientInfo: Type.Object({ name: NameSchema, title: orNull(NameSchema), version: NameSchema }, CLOSED),
    capabilities: orNull(
      Type.Object(
        {
          experimentalApi: Type.Optional(Type.Boolean()),
          optOutNotificationMethods: orNull(IdsSchema),
          explicitGatewayOauth: Type.Optional(Type.Boolean()),
          extensions: orNull(Type.Record(Type.String(), Type.Unknown())),
          mcpServerOpenaiFormElicitation: Type.Optional(Type.Boolean()),
          requestAttestation: Type.Optional(Type.Boolean()),
          requiredHumanApproval: Type.Optional(Type.Boolean())
        },
        CLOSED
      )
    )
  },
  CLOSED
)
