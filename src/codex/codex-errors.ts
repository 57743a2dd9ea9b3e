import { CodexError, InvalidMessage, NotFound, TooManyInFlight, withDetails } from '../../errors.ts'
import { RpcError } from './rpc-peer.ts'

const INVALID_REQUEST = -32600
const INVALID_PARAMS = -32602
const OVERLOADED = -32001
/** codex has no code of its own for an id it does not know; these are its words for it (0.169). */
const UNKNOWN_ID = /\bnot found\b|\bnot loaded\b|\binvalid thread id\b|\bno such thread\b/i
/** Under any code: some methods wrap it into an internal error. */
const UNKNOWN_THREAD = /\bno (?:archived )?rollout found\b/i

/**
 * Turns codex's refusal of a client's request into one of our coded errors, with the refusal as its `cause`; any other
 * error is returned as it is.
 */
export function toCodedError(error: unknown, method: string): Error {
  return error instanceof RpcError ? Object.assign(codedError(error, method), { cause: error }) : (error as Error)
}

function codedError(error: RpcError, method: string): Error {
  const details = { method, codexCode: error.rpcCode, ...(error.data === undefined ? {} : { data: error.data }) }
  if (error.rpcCode === OVERLOADED) return new TooManyInFlight(0)
  const isClientFault = error.rpcCode === INVALID_REQUEST || error.rpcCode === INVALID_PARAMS
  if (UNKNOWN_THREAD.test(error.message) || (isClientFault && UNKNOWN_ID.test(error.message))) {
    return withDetails(new NotFound('The thread or turn was'), details)
  }
  return withDetails(isClientFault ? new InvalidMessage(error.message) : new CodexError(error.message), details)
}
