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

const checks = {
  message: Compile(ClientMessageSchema),
  respond: Compile(ApprovalRespondSchema),
  extend: Compile(ApprovalExtendSchema),
  resume: Compile(SessionResumeSchema),
  refresh: Compile(AuthRefreshSchema),
  ping: Compile(PingSchema)
}

export interface MessageDoorOptions {
  session: Session
  client: SessionClient
  identity: Identity
  /** Takes a fresh token; returns the identity that now counts. */
  refresh(token: string): Promise<Identity>
}

interface Reply {
  type: 'response' | 'pong'
  payload?: object
  dropped?: string[]
}

/** The gateway's own message protocol (/ws), for one client: takes texts, answers each with one message. */
export class MessageDoor {
  readonly #options: MessageDoorOptions
  #identity: Identity

  constructor(options: MessageDoorOptions) {
    this.#options = options
    this.#identity = options.identity
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

  async #dispatch({ type, payload = {} }: ClientMessage): Promise<Reply> {
    const { session, client } = this.#options
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
        client.resume({ epoch, since, compact })
        return response({ epoch, since })
      }
      case 'auth/refresh': {
        this.#identity = await this.#options.refresh(checked(checks.refresh, payload, type).token)
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
    this.#options.client.sendDirect(answer)
  }
}

function response(payload: object): Reply {
  return { type: 'response', payload }
}

/** @param onRequestId called as soon as the id is known, so that an error about the rest still carries it */
function readMessage(data: Buffer, onRequestId: (requestId: string) => void): ClientMessage {
  if (data.length > MAX_MESSAGE_BYTES) throw new MessageTooLarge(MAX_MESSAGE_BYTES)
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
