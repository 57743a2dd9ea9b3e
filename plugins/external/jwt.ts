import fastifyJwt from '@fastify/jwt'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type CryptoKey, createRemoteJWKSet, exportSPKI, type JWTHeaderParameters } from 'jose'
import { Unauthorized } from '../../errors.ts'

export interface JwtOptions {
  key: { secret: string } | { jwksUrl: string }
  issuer: string | undefined
  audience: string | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * The claims of a token, by the same rules as `request.jwtVerify()`, for a connection that no longer has the request
     * it came with. Rejects when anything is wrong with it.
     */
    verifyToken(token: string): Promise<unknown>
  }
  interface FastifyRequest {
    /** The token that `request.jwtVerify()` looks at, wherever it came from. */
    presentedToken: string
  }
}

const CLOCK_TOLERANCE_MS = 5_000

/** `request.jwtVerify` with a shared secret (HS256), or with the keys of a JWKS address (RS256, ES256, EdDSA). */
export default fp<JwtOptions>(
  async function jwtPlugin(fastify, { key, issuer, audience }) {
    fastify.decorateRequest('presentedToken', '')
    const claims = {
      extractToken: (request: FastifyRequest) => request.presentedToken,
      clockTolerance: CLOCK_TOLERANCE_MS,
      // Without this a token that names no issuer, or no audience, would pass for one that names the right one.
      requiredClaims: [...(issuer === undefined ? [] : ['iss']), ...(audience === undefined ? [] : ['aud'])],
      ...(issuer === undefined ? {} : { allowedIss: issuer }),
      ...(audience === undefined ? {} : { allowedAud: audience })
    }
    if ('secret' in key) {
      await fastify.register(fastifyJwt, { secret: key.secret, verify: { ...claims, algorithms: ['HS256'] } })
      fastify.decorate('verifyToken', async (token: string) => fastify.jwt.verify<object>(token))
      return
    }
    const findKey = jwksKeySource(key.jwksUrl)
    await fastify.register(fastifyJwt, {
      decode: { complete: true },
      secret: (_request: unknown, token: unknown) => findKey(token),
      verify: { ...claims, algorithms: ['RS256', 'ES256', 'EdDSA'] }
    })
    fastify.decorate('verifyToken', async (token: string) =>
      fastify.jwt.verify<object>(token, { key: await findKey(fastify.jwt.decode(token)) })
    )
  },
  { name: 'jwt' }
)

/** Looks a token's public key up by its `kid`; jose caches the set and limits how often it is fetched. */
function jwksKeySource(jwksUrl: string) {
  const keySet = createRemoteJWKSet(new URL(jwksUrl))
  const pems = new WeakMap<object, Promise<string>>()
  return async (token: unknown): Promise<string> => {
    const { header } = token as { header: JWTHeaderParameters }
    try {
      const key = await keySet(header)
      const pem = pems.get(key) ?? exportSPKI(key as CryptoKey)
      pems.set(key, pem)
      return await pem
    } catch (error) {
      throw new Unauthorized(`The token's key was not found: ${(error as Error).message}`)
    }
  }
}
