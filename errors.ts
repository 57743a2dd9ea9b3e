import createError from '@fastify/error'

/**
 * Every coded error of Cloud Codex, grouped by concern. One shape on every door:
 * `{ code, message, details? }` (under `error` in REST, as `payload` on /ws).
 * The message says what to do; `details` is data for programs (see {@link withDetails}).
 */

// --- Requests and messages -------------------------------------------------------------------------------------------
export const MalformedMessage = createError('CC_MALFORMED_MESSAGE', 'The message is not a JSON object: %s', 400)
export const InvalidMessage = createError('CC_INVALID_MESSAGE', 'The message does not fit its schema: %s', 400)
export const MessageTooLarge = createError('CC_TOO_LARGE', 'The message is larger than %d bytes; split it', 413)
export const UnknownMessageType = createError('CC_UNKNOWN_TYPE', 'Unknown message type "%s"', 400)
export const MethodDenied = createError('CC_METHOD_DENIED', 'The method "%s" is not open to role "%s"', 403)
export const ValidationFailed = createError('CC_VALIDATION', '%s', 400)
export const NotFound = createError('CC_NOT_FOUND', '%s not found', 404)
export const TooManyInFlight = createError(
  'CC_TOO_MANY_IN_FLIGHT',
  'Too many requests wait for this session (%d); wait for answers before sending more',
  429
)
export const UpgradeRequired = createError('CC_UPGRADE_REQUIRED', 'Open this address as a WebSocket', 426)
export const InternalError = createError('CC_INTERNAL', 'Internal error; the request id names it in the logs', 500)

// --- Auth ------------------------------------------------------------------------------------------------------------
export const Unauthorized = createError('CC_UNAUTHORIZED', '%s', 401)
export const Forbidden = createError('CC_FORBIDDEN', '%s', 403)
export const OriginDenied = createError('CC_ORIGIN_DENIED', 'Origin "%s" is not allowed; add it to CORS_ORIGINS', 403)
export const HostDenied = createError(
  'CC_HOST_DENIED',
  'Host "%s" is not a loopback name; development mode answers loopback hosts only',
  403
)
export const InvalidUserId = createError(
  'CC_INVALID_USER_ID',
  'A user id is 1 to 128 characters of [A-Za-z0-9._@:|-]%s',
  400
)

// --- Workspace -------------------------------------------------------------------------------------------------------
export const OutsideWorkspace = createError(
  'CC_OUTSIDE_WORKSPACE',
  'The path "%s" is not inside the workspace; use a path relative to the workspace',
  400
)

export const FileNotFound = createError('CC_FILE_NOT_FOUND', '%s', 404)
export const FileRefused = createError('CC_FILE_REFUSED', '%s', 400)
export const FileTooLarge = createError('CC_FILE_TOO_LARGE', '%s', 413)
export const FileChanged = createError('CC_FILE_CHANGED', 'The file is not as %s says; read it again', 412)
export const RangeUnsatisfiable = createError('CC_RANGE', 'The file has %d bytes; ask for a range in it', 416)
export const FileProtected = createError(
  'CC_FILE_PROTECTED',
  'Nothing is written to "%s": "%s" holds settings that make programs run others; ask the agent for the change',
  403
)

// --- Isolation -------------------------------------------------------------------------------------------------------
export const IsolationUnavailable = createError(
  'CC_ISOLATION_UNAVAILABLE',
  'The users of this host cannot be kept apart: %s. docs/DEPLOY.md says what bubblewrap needs; ISOLATION=none does without',
  500
)

// --- Pool and process ------------------------------------------------------------------------------------------------
export const PoolFull = createError('CC_POOL_FULL', 'All %d codex processes are in use; retry later', 503)
export const ProcessExited = createError(
  'CC_PROCESS_EXITED',
  'The codex process ended before it answered; send the request again',
  502
)
export const ProcessStartFailed = createError('CC_PROCESS_START_FAILED', 'The codex process did not start: %s', 502)
export const RestartDelayed = createError(
  'CC_RESTART_DELAYED',
  'The codex process keeps ending and is not started again yet; retry in %d s. Last: %s',
  503
)
export const CrashLoop = createError(
  'CC_CRASH_LOOP',
  'The codex process ended or did not start again and again within %d minutes; the next try is in %d s. Last: %s',
  503
)
export const RequestTimeout = createError('CC_REQUEST_TIMEOUT', 'codex did not answer "%s" within %d ms', 504)
export const CodexError = createError('CC_CODEX_ERROR', '%s', 502)
export const ShuttingDown = createError('CC_SHUTTING_DOWN', 'The service is shutting down; reconnect shortly', 503)
export const CodexBinaryMissing = createError(
  'CC_CODEX_BINARY_MISSING',
  'No codex binary at "%s"; run npm install without --omit=optional, or set CODEX_BIN to a codex binary',
  500
)
export const CodexBinaryUnusable = createError(
  'CC_CODEX_BINARY_UNUSABLE',
  '"%s" does not tell its version (%s); set CODEX_BIN to a codex binary',
  500
)

// --- Model -----------------------------------------------------------------------------------------------------------
export const ModelTokenInvalid = createError(
  'CC_MODEL_TOKEN_INVALID',
  'The token for the model endpoint is unknown, or its codex process is gone',
  401
)
export const ModelPathDenied = createError('CC_MODEL_PATH_DENIED', 'The model endpoint has no %s %s', 404)
export const ModelKeyRefused = createError('CC_MODEL_KEY_REFUSED', 'The model endpoint refuses the key', 401)
export const ModelUnreachable = createError('CC_MODEL_UNREACHABLE', 'The model endpoint cannot be asked: %s', 502)
export const ModelBusy = createError(
  'CC_MODEL_BUSY',
  'Too many requests to the model (%s are allowed); retry later',
  429
)
export const BudgetExceeded = createError(
  'CC_BUDGET_EXCEEDED',
  'The budget %s is used up (%s); it begins anew at %s',
  429
)
export const ModelSilent = createError('CC_MODEL_SILENT', 'The model endpoint was silent for %d ms', 504)

// --- Approvals -------------------------------------------------------------------------------------------------------
export const ApprovalNotFound = createError('CC_APPROVAL_NOT_FOUND', 'No approval "%s"', 404)
export const ApprovalAlreadyResolved = createError('CC_APPROVAL_RESOLVED', 'The approval "%s" is already %s', 409)
export const InvalidDecision = createError(
  'CC_INVALID_DECISION',
  'The decision "%s" does not fit this approval: %s',
  400
)
export const DecisionTokenInvalid = createError(
  'CC_DECISION_TOKEN_INVALID',
  'The decision token is unknown, used or expired',
  401
)
export const PolicyFileInvalid = createError('CC_POLICY_INVALID', 'The policy file %s is not valid: %s', 400)

// --- Audit -----------------------------------------------------------------------------------------------------------
export const AuditUnavailable = createError(
  'CC_AUDIT_UNAVAILABLE',
  'The audit log cannot be written (%s); no decision takes effect until it can',
  503
)
export const AuditEntryInvalid = createError('CC_AUDIT_ENTRY_INVALID', 'Not an audit entry: %s', 500)
export const AuditLocked = createError(
  'CC_AUDIT_LOCKED',
  'Process %d already writes the audit log in %s; stop that gateway or set another DATA_DIR',
  500
)
export const AuditDamaged = createError(
  'CC_AUDIT_DAMAGED',
  'The audit log in %s is damaged: %s. Keep a copy, run the verifier, then open it once with acceptDamage and a reason',
  500
)

// --- Boot ------------------------------------------------------------------------------------------------------------
export const ConfigInvalid = createError('CC_CONFIG_INVALID', 'Configuration: %s', 500)
export const PortInUse = createError(
  'CC_PORT_IN_USE',
  'Port %d on %s is in use; stop the other program or set PORT',
  500
)
export const StoreUnavailable = createError('CC_STORE_UNAVAILABLE', 'The store does not answer: %s', 503)
export const StoreRecordInvalid = createError(
  'CC_STORE_RECORD_INVALID',
  'The stored session record of "%s" is not readable: %s; delete it or restore a backup',
  500
)
export const StoredDocumentInvalid = createError(
  'CC_STORED_DOCUMENT_INVALID',
  'The stored document "%s" of %s is not JSON; replace it, delete it or restore a backup',
  500
)
export const StoredJournalInvalid = createError(
  'CC_STORED_JOURNAL_INVALID',
  'The stored journal of "%s" is not readable: %s; delete it or restore a backup',
  500
)
export const JournalUnknown = createError(
  'CC_JOURNAL_UNKNOWN',
  'No journal of "%s" is stored; put its head before its events',
  500
)
export const InvalidDocumentId = createError(
  'CC_INVALID_DOCUMENT_ID',
  'The id of a document is 1 to 256 characters of printable ASCII',
  400
)

/** What any error looks like to a client: its HTTP status and the one error shape. */
export interface DescribedError {
  statusCode: number
  payload: { code: string; message: string; details?: Record<string, unknown> }
}

interface MaybeCoded extends Error {
  code?: unknown
  statusCode?: unknown
  details?: unknown
}

/**
 * Renders any error for a client. Our own coded errors say what they are; of Fastify's own, those that blame the
 * request keep their message; everything else is CC_INTERNAL, because its message may hold paths or secrets.
 */
export function describeError(error: unknown): DescribedError {
  const { code, statusCode, message, details } = (error instanceof Error ? error : {}) as MaybeCoded
  const status = typeof statusCode === 'number' ? statusCode : 500
  if (typeof code === 'string' && code.startsWith('CC_')) {
    const isDetails = typeof details === 'object' && details !== null
    return { statusCode: status, payload: { code, message, ...(isDetails ? { details: { ...details } } : {}) } }
  }
  if (status >= 400 && status < 500) return { statusCode: status, payload: { code: codeOfStatus(status), message } }
  const { code: internal, message: hidden } = new InternalError()
  return { statusCode: 500, payload: { code: internal, message: hidden } }
}

function codeOfStatus(statusCode: number): string {
  if (statusCode === 401) return 'CC_UNAUTHORIZED'
  if (statusCode === 404) return 'CC_NOT_FOUND'
  if (statusCode === 413) return 'CC_TOO_LARGE'
  if (statusCode === 429) return 'CC_TOO_MANY_REQUESTS'
  return 'CC_BAD_REQUEST'
}

/** Attaches machine-readable `details` (a plain JSON object, no secrets) to a coded error. */
export function withDetails<E extends Error>(error: E, details: Record<string, unknown>): E & ErrorDetails {
  return Object.assign(error, { details })
}

export interface ErrorDetails {
  details: Record<string, unknown>
}
