import { createHmac, timingSafeEqual } from 'node:crypto'

/** `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`; a receiver accepts any one `v1` that fits. */
export const SIGNATURE_HEADER = 'x-cloud-codex-signature'

const TOLERANCE_MS = 300_000

/** The value of {@link SIGNATURE_HEADER} for a body, exactly as it is sent. */
export function signBody(secret: string, body: string, nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000)
  return `t=${seconds},v1=${digest(secret, seconds, body).toString('hex')}`
}

/**
 * What a receiver does: whether `header` signs `body` with `secret`, at most five minutes from now. The body must be
 * the bytes as they came, not parsed and written again.
 */
export function isSignedBy(secret: string, header: string, body: string, nowMs: number): boolean {
  const fields = header.split(',').map((field) => field.trim().split('=', 2))
  const seconds = Number(fields.find(([name]) => name === 't')?.[1])
  // An old signature proves nothing: who recorded the request can send it again.
  if (!Number.isInteger(seconds) || Math.abs(nowMs - seconds * 1000) > TOLERANCE_MS) return false
  const expected = digest(secret, seconds, body)
  return fields.some(([name, value = '']) => {
    const given = name === 'v1' ? Buffer.from(value, 'hex') : Buffer.alloc(0)
    return given.length === expected.length && timingSafeEqual(given, expected)
  })
}

function digest(secret: string, seconds: number, body: string): Buffer {
  return createHmac('sha256', secret).update(`${seconds}.${body}`).digest()
}
