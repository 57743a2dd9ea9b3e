import { describeError } from '../../errors.ts'
import { RpcError } from '../codex/rpc-peer.ts'
import { isJsonObject, type JsonValue } from '../json.ts'

/** JSON-RPC codes as codex uses them. */
export const RpcCodes = {
  INVALID_REQUEST: -32600,
  UNSUPPORTED: -32601,
  INVALID_PARAMS: -32602,
  INTERNAL: -32603,
  OVERLOADED: -32001
} as const

export interface NativeError {
  code: number
  message: string
  data?: JsonValue
}

/** What codex would say of these, where the gateway says it; all others are internal errors to a codex client. */
const CODES: Record<string, number> = {
  CC_INVALID_MESSAGE: RpcCodes.INVALID_REQUEST,
  CC_UNKNOWN_TYPE: RpcCodes.INVALID_REQUEST,
  CC_TOO_LARGE: RpcCodes.INVALID_REQUEST,
  CC_NOT_FOUND: RpcCodes.INVALID_REQUEST,
  CC_FORBIDDEN: RpcCodes.INVALID_REQUEST,
  CC_METHOD_DENIED: RpcCodes.UNSUPPORTED,
  CC_OUTSIDE_WORKSPACE: RpcCodes.INVALID_PARAMS,
  CC_VALIDATION: RpcCodes.INVALID_PARAMS,
  CC_TOO_MANY_IN_FLIGHT: RpcCodes.OVERLOADED,
  CC_POOL_FULL: RpcCodes.OVERLOADED,
  CC_RESTART_DELAYED: RpcCodes.OVERLOADED,
  CC_CRASH_LOOP: RpcCodes.OVERLOADED,
  CC_SHUTTING_DOWN: RpcCodes.OVERLOADED
}

/**
 * Any error as a JSON-RPC error object: codex's own code, message and data where codex refused, with our coded error
 * (`{code: "CC_…", message, details?}`) in `data`.
 */
export function toNativeError(error: unknown): NativeError {
  const { payload } = describeError(error)
  const cause = error instanceof Error ? error.cause : undefined
  if (cause instanceof RpcError) {
    const own = isJsonObject(cause.data) ? cause.data : {}
    return { code: cause.rpcCode, message: cause.message, data: { ...own, code: payload.code } }
  }
  return {
    code: codexCode(payload.details) ?? CODES[payload.code] ?? RpcCodes.INTERNAL,
    message: payload.message,
    data: JSON.parse(JSON.stringify(payload)) as JsonValue
  }
}

/** The code that codex would have refused with, where the gateway answers in its place. */
function codexCode(details: Record<string, unknown> | undefined): number | undefined {
  return typeof details?.codexCode === 'number' ? details.codexCode : undefined
}
