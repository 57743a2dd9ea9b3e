import type { Static, TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { describeError, InvalidMessage, MalformedMessage, MessageTooLarge, withDetails } from '../../errors.ts'
import {
  ApprovalExtendSchema,
  ApprovalRespondSchema,
  AuthRefreshSchema,
  type ClientMessage,
  ClientMessageSchema,
  PingSchema,
  SessionResumeSchema
} from '../../schemas/client-messages.ts'
import type { Identity } from '../../schemas/identity.ts'
import type { SessionClient } from './client.ts'
import type { Session } from './session.ts'

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024
/** More than a type and a requestId take. */
const EDGE_BYTES = 1024
const REQUEST_ID = String.raw`"requestId"\s*:\s*("(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,256}")`
const REQUEST_ID_FIRST = new RegExp(String.raw`^\s*\{\s*(?:"type"\s*:\s*"[^"\\]*"\s*,\s*)?${REQUEST_ID}`)
const REQUEST_ID_LAST = new RegExp(String.raw`,\s*${REQUEST_ID}\s*\}\s*$`)

const checks = {
  message: Compile(ClientMessageSchema),
  respond: Compile(ApprovalRespondSchema),
  extend: Compile(ApprovalExtendSchema),
  resume: Compile(SessionResumeSchema),
  refresh: Compile(AuthRefreshSchema),
  ping: Compile(PingSchema)
}

/** Takes a fresh token; returns the identity that now counts instead of the one before. */
export type RefreshIdentity = (identity: Identity, token: string) => Promise<Identity>

interface Reply {
  type: 'response' | 'pong'
  payload?: object
  dropped?: string[]
}

/** The gateway's own message protocol (/ws), for one client: takes texts, answers each with one message. */
export class MessageDoor {
  /** Its place in the session. */
  readonly client: SessionClient
  readonly #session: Session
  readonly #refresh: RefreshIdentity
  #identity: Identity

  constructor(session: Session, client: SessionClient, identity: Identity, refresh: RefreshIdentity) {
    this.#session = session
    this.client = client
    this.#identity = identity
    this.#refresh = refresh
  }

  /** Who is asking; another one after a refresh. */
  get identity(): Identity {
    return this.#identity
  }

  /** Handles one message and sends its answer. Never rejects: what goes wrong is the answer. */
  async handle(data: Buffer, isBinary = false): Promise<void> {
    let requestId: string | undefined
    try {
      if (isBinary) throw new MalformedMessage('it came in a binary frame; send text frames')
      const message = readMessage(data, (id) => {
        requestId = id
      })
      const { dropped, ...reply } = await this.#dispatch(message)
      this.#send({ ...reply, ...(dropped?.length ? { dropped } : {}) }, requestId)
    } catch (error) {
      this.#send({ type: 'error', payload: describeError(error).payload }, requestId)
    }
  }

  /** The client is gone. */
  close(): void {
    this.#session.detach(this.client)
  }

  async #dispatch({ type, payload = {} }: ClientMessage): Promise<Reply> {
    const session = this.#session
    switch (type) {
      case 'approval/respond': {
        const { approvalId, ...body } = checked(checks.respond, payload, type)
        return response(await session.respond(approvalId, body, this.#identity))
      }
      case 'approval/extend': {
        const { approvalId, ms } = checked(checks.extend, payload, type)
        const { expiresAt } = session.extend(approvalId, ms, this.#identity)
        return response({ approvalId, expiresAt })
      }
      case 'session/resume': {
        const { epoch, since, compact } = checked(checks.resume, payload, type)
        this.client.resume({ epoch, since, compact })
        return response({ epoch, since })
      }
      case 'auth/refresh': {
        this.#identity = await this.#refresh(this.#identity, checked(checks.refresh, payload, type).token)
        return response({ userId: this.#identity.userId })
      }
      case 'ping':
        checked(checks.ping, payload, type)
        return { type: 'pong' }
      default: {
        const actor = { ...this.#identity, answersToolCalls: true }
        const { payload: result, dropped } = await session.request(type, payload, actor)
        return { ...response(result), dropped }
      }
    }
  }

  #send(message: object, requestId: string | undefined): void {
    const answer = requestId === undefined ? message : { ...message, requestId }
    this.client.sendDirect(answer)
  }
}

function response(payload: object): Reply {
  return { type: 'response', payload }
}

/** @param onRequestId called as soon as the id is known, so that an error about the rest still carries it */
function readMessage(data: Buffer, onRequestId: (requestId: string) => void): ClientMessage {
  if (data.length > MAX_MESSAGE_BYTES) {
    const requestId = requestIdAtEdge(data)
    if (requestId !== undefined) onRequestId(requestId)
    throw new MessageTooLarge(MAX_MESSAGE_BYTES)
  }
  let message: unknown
  try {
    message = JSON.parse(data.toString('utf8'))
  } catch (error) {
    throw new MalformedMessage((error as Error).message)
  }
  const { requestId } = (message ?? {}) as { requestId?: unknown }
  if (typeof requestId === 'string' && requestId.length <= 256) onRequestId(requestId)
  return checked(checks.message, message, 'message')
}

/**
 * The requestId of a message that is too large to be parsed, where it is the first field, the one after the type, or the
 * last; undefined elsewhere.
 */
function requestIdAtEdge(data: Buffer): string | undefined {
  const [, first] = REQUEST_ID_FIRST.exec(data.toString('utf8', 0, EDGE_BYTES)) ?? []
  const [, last] = REQUEST_ID_LAST.exec(data.toString('utf8', data.length - EDGE_BYTES)) ?? []
  const text = first ?? last
  return text === undefined ? undefined : (JSON.parse(text) as string)
}

function checked<S extends TSchema>(
  check: Validator<Record<never, never>, S>,
  value: unknown,
  what: string
): Static<S> {
  if (check.Check(value)) return value as Static<S>
  const [first] = check.Errors(value)
  const path = first?.instancePath ?? ''
  throw withDetails(new InvalidMessage(`${what}: ${path || 'the message'} ${first?.message ?? 'is not valid'}`), {
    path
  })
}
