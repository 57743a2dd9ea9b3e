import type { RoleFields } from './method-row.ts'

/**
 * Known fields that a client's role may not set: dropped, and named in the answer.
 * What loosens the sandbox or moves the approvals is nobody's. `baseInstructions` replaces codex's own system prompt,
 * and the operator's with it: admin. `developerInstructions` only add to the user's own conversation, as any text of
 * theirs does: every role that may start a turn, so it has no row here.
 */
const GOVERNED: RoleFields = {
  approvalPolicy: 'nobody',
  approvalsReviewer: 'nobody',
  sandbox: 'nobody',
  permissions: 'nobody',
  config: 'nobody',
  runtimeWorkspaceRoots: 'nobody',
  modelProvider: 'nobody',
  baseInstructions: 'admin'
}

export const THREAD_START_FIELDS: RoleFields = {
  ...GOVERNED,
  environments: 'nobody',
  selectedCapabilityRoots: 'nobody',
  dynamicTools: 'toolClient',
  projectId: 'nobody',
  daybreakEnabled: 'nobody',
  serviceName: 'nobody',
  experimentalRawEvents: 'nobody',
  mockExperimentalField: 'nobody'
}

/** `path` and `history` would load any file, or any past, as the user's thread. */
export const THREAD_RESUME_FIELDS: RoleFields = { ...GOVERNED, path: 'nobody', history: 'nobody' }

export const THREAD_FORK_FIELDS: RoleFields = {
  ...GOVERNED,
  path: 'nobody',
  experimentalPredictionMode: 'nobody',
  experimentalDisablePredictionMcp: 'nobody'
}

/** Sent on to the model provider in the operator's name. */
export const QUEUE_FIELDS: RoleFields = { responsesapiClientMetadata: 'nobody' }
export const INPUT_FIELDS: RoleFields = { ...QUEUE_FIELDS, responsesapiClientMetadataPatch: 'nobody' }

/** `toolOutput` puts words into a tool's mouth, as thread/inject_items would. */
export const TURN_START_FIELDS: RoleFields = {
  ...INPUT_FIELDS,
  approvalPolicy: 'nobody',
  approvalsReviewer: 'nobody',
  sandboxPolicy: 'nobody',
  permissions: 'nobody',
  runtimeWorkspaceRoots: 'nobody',
  environments: 'nobody',
  cyberAccessProgram: 'nobody',
  toolOutput: 'nobody'
}

export const METADATA_FIELDS: RoleFields = { projectId: 'nobody', daybreakEnabled: 'nobody' }
export const MODEL_LIST_FIELDS: RoleFields = { modelProvider: 'nobody' }

/** A refresh, and an experiment's exposure, spend something of the operator's account. */
export const ACCOUNT_READ_FIELDS: RoleFields = { refreshToken: 'nobody' }
export const RATE_LIMITS_FIELDS: RoleFields = { supportsLunaReserve: 'nobody' }

/** Each would have every skill directory read again. */
export const SKILLS_LIST_FIELDS: RoleFields = { forceReload: 'user' }

/** Capabilities that a shared process cannot promise to one client. */
export const INITIALIZE_FIELDS: RoleFields = {
  '/capabilities/requestAttestation': 'nobody',
  '/capabilities/requiredHumanApproval': 'nobody',
  '/capabilities/explicitGatewayOauth': 'nobody',
  '/capabilities/mcpServerOpenaiFormElicitation': 'nobody',
  '/capabilities/extensions': 'nobody'
}
