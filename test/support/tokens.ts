import { type JWTPayload, SignJWT } from 'jose'

/** For JWT_SECRET in tests. */
export const TEST_SECRET = 'a secret of the tests, and long enough'

/** An HS256 token for this user; `exp` is an hour from now unless the claims say otherwise. */
export function tokenFor(sub: string, claims: JWTPayload = {}, secret = TEST_SECRET): Promise<string> {
  const exp = Math.floor(Date.now() / 1000) + 3600
  return new SignJWT({ sub, exp, ...claims })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .sign(new TextEncoder().encode(secret))
}

/** The header that carries it. */
export async function bearer(sub: string, claims: JWTPayload = {}): Promise<{ authorization: string }> {
  return { authorization: `Bearer ${await tokenFor(sub, claims)}` }
}
