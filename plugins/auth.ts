import { randomBytes } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Forbidden, InvalidUserId, Unauthorized } from '../errors.ts'
import { RoleSchema, UserIdSchema } from '../schemas/common.ts'
import type { Identity } from '../schemas/identity.ts'

const TICKET_LIFETIME_MS = 30_000
const MAX_TICKETS = 10_000

export interface AuthOptions {
  /** Whether the policy lets an approver decide the approvals of another user. */
  mayApprove(actor: Identity, userId: string): Promise<boolean>
  /** `development`: the caller says who they are (loopback only). `jwt`: a token says it. */
  mode: 'development' | 'jwt'
}

export interface Ticket {
  ticket: string
  expiresAtMs: number
}

export interface Auth {
  /**
   * Verifies a fresh token for a connection that goes on; `identity` is what counted until now. Throws Unauthorized, or
   * Forbidden for another user's.
   */
  refresh(identity: Identity, token: string): Promise<Identity>
  /** A single-use stand-in for the caller's token, for a WebSocket URL. */
  issueTicket(identity: Identity): Ticket
}

declare module 'fastify' {
  interface FastifyInstance {
    auth: Auth
    /** preValidation hook: sets `request.identity`, or rejects with Unauthorized or Forbidden. */
    authenticate(request: FastifyRequest): Promise<void>
  }
  interface FastifyRequest {
    identity: Identity
  }
  interface FastifyContextConfig {
    /** Approvers may use this route for users whose approvals the policy gives them. */
    isForApprovers?: boolean
  }
}

const ClaimsSchema = Type.Object({
  sub: UserIdSchema,
  exp: Type.Optional(Type.Number()),
  // An empty list would be less than a viewer, and every route asks for one at least.
  roles: Type.Optional(Type.Array(RoleSchema, { minItems: 1 }))
})
const claimsCheck = Compile(ClaimsSchema)
const userIdCheck = Compile(UserIdSchema)

/** Says who is asking: JWT, ticket, or (development mode) the caller's own word. */
export default fp<AuthOptions>(
  async function authPlugin(fastify, { mode, mayApprove }) {
    const tickets = new Map<string, { identity: Identity; expiresAtMs: number }>()

    const readClaims = async (verifying: Promise<unknown>): Promise<Identity> => {
      const claims = await verifying.catch((error: Error) => {
        throw error instanceof Unauthorized ? error : new Unauthorized(`The token is not valid: ${error.message}`)
      })
      if (!claimsCheck.Check(claims))
        throw new Unauthorized('The token needs a `sub` that is a user id, and known `roles`')
      const { sub, exp, roles } = claims
      const expiresAtMs = exp === undefined ? undefined : exp * 1000
      return { userId: sub, actorId: sub, roles: roles ?? ['user'], expiresAtMs }
    }

    const redeem = (ticket: string): Identity => {
      const found = tickets.get(ticket)
      tickets.delete(ticket)
      if (!found || found.expiresAtMs <= Date.now()) throw new Unauthorized('The ticket is unknown, used or expired')
      return found.identity
    }

    /** `service` and `admin` may act for other users, an approver on approval routes; everybody else for themselves. */
    const actFor = async (identity: Identity, userId: string | undefined, isForApprovers = false) => {
      if (userId === undefined || userId === identity.userId) return identity
      const { roles } = identity
      const mayAct =
        roles.some((role) => role === 'service' || role === 'admin') ||
        (isForApprovers && (await mayApprove(identity, userId)))
      if (!mayAct) throw new Forbidden(`The token is not for user "${userId}"`)
      return { ...identity, userId }
    }

    const identify = async (request: FastifyRequest): Promise<Identity> => {
      const claimed = claimedUserId(request)
      const { ticket } = request.query as { ticket?: unknown }
      const { isForApprovers } = request.routeOptions.config
      if (typeof ticket === 'string') return actFor(redeem(ticket), claimed, isForApprovers)
      if (mode === 'development') return developmentIdentity(claimed)
      const token = findToken(request)
      if (token === undefined) {
        throw new Unauthorized(
          'A token is needed: "Authorization: Bearer <token>", or the subprotocols "bearer, <token>"'
        )
      }
      request.presentedToken = token
      return actFor(await readClaims(request.jwtVerify()), claimed, isForApprovers)
    }

    fastify.decorateRequest('identity', null as unknown as Identity)
    fastify.decorate('authenticate', async (request: FastifyRequest) => {
      request.identity = await identify(request)
    })
    fastify.decorate('auth', {
      async refresh(identity, token) {
        if (mode === 'development') return identity
        const fresh = await readClaims(fastify.verifyToken(token))
        if (fresh.actorId !== identity.actorId) throw new Forbidden('The token is another user’s')
        return actFor(fresh, identity.userId)
      },
      issueTicket(identity) {
        const nowMs = Date.now()
        for (const [ticket, { expiresAtMs }] of tickets) {
          if (expiresAtMs > nowMs && tickets.size < MAX_TICKETS) break
          tickets.delete(ticket)
        }
        const ticket = randomBytes(24).toString('base64url')
        const expiresAtMs = nowMs + TICKET_LIFETIME_MS
        tickets.set(ticket, { identity, expiresAtMs })
        return { ticket, expiresAtMs }
      }
    })
  },
  { name: 'auth' }
)

/** The user that the request is about, when it names one. Several names must agree. */
function claimedUserId(request: FastifyRequest): string | undefined {
  const { userId: fromQuery } = (request.query ?? {}) as { userId?: unknown }
  const { userId: fromBody } = (request.body ?? {}) as { userId?: unknown }
  const claims = [fromQuery, request.headers['x-user-id'], fromBody].filter((claim) => claim !== undefined)
  for (const claim of claims) if (!userIdCheck.Check(claim)) throw new InvalidUserId('')
  if (new Set(claims).size > 1) throw new Forbidden('The request names two different users')
  return claims[0] as string | undefined
}

function developmentIdentity(userId: string | undefined): Identity {
  if (userId === undefined) {
    throw new Unauthorized('Development mode: say who you are with ?userId=, the header x-user-id or a body userId')
  }
  return { userId, actorId: userId, roles: ['user'], expiresAtMs: undefined }
}

function findToken(request: FastifyRequest): string | undefined {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ')
  if (scheme?.toLowerCase() === 'bearer' && token) return token
  const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  return protocols[0] === 'bearer' && protocols[1] ? protocols[1] : undefined
}
