import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { HostDenied, OriginDenied } from '../errors.ts'

export interface OriginOptions {
  allowedOrigins: readonly string[]
  /** Development mode: only loopback names may stand in `Host`. */
  isLoopbackOnly: boolean
}

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Refuses browsers on foreign pages: a WebSocket or a form post goes out with the user's network position, whatever
 * page it stands on. In development mode the Host is checked too, or a DNS name that rebinds to 127.0.0.1 would pass
 * as the same origin.
 */
export default fp<OriginOptions>(
  async function originPlugin(fastify, { allowedOrigins, isLoopbackOnly }) {
    const allowed = new Set(allowedOrigins)

    fastify.addHook('onRequest', async (request) => {
      const host = request.headers.host ?? ''
      if (isLoopbackOnly && !isLoopbackHost(host)) throw new HostDenied(host)
      const { origin } = request.headers
      const needsCheck = request.headers.upgrade !== undefined || !SAFE_METHODS.has(request.method)
      if (origin === undefined || !needsCheck) return
      if (!allowed.has(origin) && !isSameOrigin(origin, request)) throw new OriginDenied(origin)
    })
  },
  { name: 'origin' }
)

function isSameOrigin(origin: string, request: FastifyRequest): boolean {
  return URL.canParse(origin) && new URL(origin).host === request.headers.host
}

function isLoopbackHost(host: string): boolean {
  const name = host
    .toLowerCase()
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'))
}
