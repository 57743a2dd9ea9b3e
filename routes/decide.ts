import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { DecisionTokenInvalid, describeError, InvalidDecision } from '../errors.ts'
import { type ApprovalResolved, ApprovalResolvedSchema } from '../schemas/approvals.ts'
import { ApiErrorSchema, ref } from '../schemas/common.ts'
import { DecideBodySchema, DecideFormSchema, DecideQuerySchema, type TokenDecision } from '../schemas/webhooks.ts'
import { askPage, endPage, errorPage, PAGE_HEADERS } from './decision-page.ts'
import { sessionErrors } from './responses.ts'

const MAX_BODY_BYTES = 4_096

/** Deciding with the token of a webhook, for programs and for people. Public: the token says what its bearer may do. */
const decideRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const sessions = fastify.getDecorator<FastifyInstance['sessions']>('sessions')
  const { tokens } = fastify.getDecorator<FastifyInstance['webhooks']>('webhooks')

  const decide = async (token: string, decision: TokenDecision): Promise<ApprovalResolved> => {
    const { userId, webhookId, approval, decisions } = tokens.verify(token, Date.now())
    if (!decisions.includes(decision)) {
      throw new InvalidDecision(decision, `with this token it takes ${decisions.join(', ')}`)
    }
    const session = sessions.find(userId)
    if (!session) throw new DecisionTokenInvalid()
    return session.respond(approval.approvalId, { decision }, { kind: 'webhook', actorId: webhookId, roles: ['user'] })
  }

  fastify.post(
    '/api/approvals/decide',
    {
      bodyLimit: MAX_BODY_BYTES,
      schema: {
        operationId: 'decideApproval',
        tags: ['approvals'],
        summary: 'Decide an approval with the single-use token of a webhook; no other credential is needed',
        security: [],
        body: DecideBodySchema,
        response: { 200: ref(ApprovalResolvedSchema), 409: ref(ApiErrorSchema), ...sessionErrors }
      }
    },
    async ({ headers, body: { token, decision } }) => decide(token ?? bearerToken(headers.authorization), decision)
  )

  const decisionPages: FastifyPluginAsyncTypebox = async (scope) => {
    scope.removeAllContentTypeParsers()
    const parseForm = async (_request: FastifyRequest, body: string) => Object.fromEntries(new URLSearchParams(body))
    scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, parseForm)
    scope.setErrorHandler((error: FastifyError, request, reply) => {
      const { statusCode, payload } = describeError(error)
      if (statusCode >= 500) request.log.error({ err: error }, 'request failed')
      const { outcome, by } = (payload.details ?? {}) as Partial<ApprovalResolved>
      return sendPage(reply.code(statusCode), outcome && by ? endPage({ outcome, by }) : errorPage(payload.message))
    })

    // Shows and never decides: mail scanners and link previews follow every link.
    scope.get('/decide', { schema: { hide: true, querystring: DecideQuerySchema } }, async ({ query }, reply) => {
      const asked = tokens.verify(query.token, Date.now())
      return sendPage(reply, asked.resolution ? endPage(asked.resolution) : askPage(asked, query.token))
    })

    scope.post(
      '/decide',
      { bodyLimit: MAX_BODY_BYTES, schema: { hide: true, body: DecideFormSchema } },
      async ({ body: { token, decision } }, reply) => sendPage(reply, endPage(await decide(token, decision)))
    )
  }
  fastify.register(decisionPages)
}

function bearerToken(authorization = ''): string {
  const [, token] = /^bearer +(\S+)$/i.exec(authorization) ?? []
  if (token === undefined) throw new DecisionTokenInvalid()
  return token
}

function sendPage(reply: FastifyReply, html: string): FastifyReply {
  return reply.headers(PAGE_HEADERS).send(html)
}

export default decideRoutes
