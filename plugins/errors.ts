import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { describeError, NotFound, ValidationFailed, withDetails } from '../errors.ts'

/** Renders every error as `{ error: { code, message, details? } }`; what is our fault is logged and not told. */
export default fp(
  async function errorsPlugin(fastify) {
    fastify.setErrorHandler((error: FastifyError, request, reply) => {
      const shown = error.validation ? validationError(error) : error
      const { statusCode, payload } = describeError(shown)
      if (statusCode >= 500) request.log.error({ err: error }, 'request failed')
      const retryAfter = payload.details?.retryAfter
      if (typeof retryAfter === 'number') reply.header('retry-after', retryAfter)
      return reply.code(statusCode).send({ error: payload })
    })
    fastify.setNotFoundHandler((request: FastifyRequest, reply: FastifyReply) => {
      const { statusCode, payload } = describeError(new NotFound(`${request.method} ${request.url.split('?')[0]}`))
      return reply.code(statusCode).send({ error: payload })
    })
  },
  { name: 'errors' }
)

/** The same for what fails before any route and hook: a URL that cannot be decoded, a parameter that is too long. */
export function frameworkErrors(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const { statusCode, payload } = describeError(error)
  // No hook runs, so nobody else would close the socket of an upgrade.
  if (request.headers.upgrade !== undefined) reply.raw.once('finish', () => request.raw.socket.destroy())
  reply.code(statusCode).send({ error: payload })
}

function validationError(error: FastifyError): Error {
  const [first] = error.validation ?? []
  const path = `${error.validationContext ?? ''}${first?.instancePath ?? ''}`
  return withDetails(new ValidationFailed(`${path} ${first?.message ?? error.message}`.trim()), {
    path,
    ...(first?.params === undefined ? {} : { params: first.params })
  })
}
