import { asObject, asText, isJsonObject, type JsonObject, type JsonValue } from '../json.ts'
import { type NativeError, RpcCodes } from './native-errors.ts'

export interface Greeting {
  clientName: string
  clientVersion: string
  isExperimental: boolean
  /** Exact names of notifications. */
  optedOut: string[]
}

/** What a header value may hold; codex puts the name into its user agent. */
const HEADER_VALUE = /^[\t\x20-\x7e]*$/
/** codex names the client of a connection at the end of its user agent. */
const CLIENT = / \([^()]*; [^()]*\)$/

/** Reads the params of `initialize`, refusing in codex's words what codex refuses. */
export function readInitialize(params: JsonValue | undefined): Greeting | NativeError {
  if (params === undefined) return missing('params')
  if (!isJsonObject(params) || !isJsonObject(params.clientInfo)) return missing('clientInfo')
  const { name, version } = params.clientInfo
  if (typeof name !== 'string') return missing('name')
  if (typeof version !== 'string') return missing('version')
  if (!HEADER_VALUE.test(name)) {
    return invalid(`Invalid clientInfo.name: '${name}'. Must be a valid HTTP header value.`)
  }
  const { experimentalApi, optOutNotificationMethods: optedOut } = asObject(params.capabilities)
  return {
    clientName: name,
    clientVersion: version,
    isExperimental: experimentalApi === true,
    optedOut: Array.isArray(optedOut) ? optedOut.flatMap((method) => asText(method) ?? []) : []
  }
}

/** codex's reply to the gateway's own `initialize`, as this client gets it. */
export function replyTo({ clientName, clientVersion }: Greeting, handshake: JsonObject): JsonObject {
  const userAgent = asText(handshake.userAgent) ?? ''
  return { ...handshake, userAgent: userAgent.replace(CLIENT, () => ` (${clientName}; ${clientVersion})`) }
}

export function missing(field: string): NativeError {
  return invalid(`Invalid request: missing field \`${field}\``)
}

export function invalid(message: string): NativeError {
  return { code: RpcCodes.INVALID_REQUEST, message }
}
