import { type Logger, pino, stdSerializers } from 'pino'
import { redact } from '../../src/audit/redact.ts'

/** Headers and query fields that carry tokens. */
const SECRET_QUERY_FIELDS = /([?&](?:ticket|token|access_token)=)[^&]*/gi

interface LoggedRequest {
  method: string
  url: string
  ip?: string
}

/** The gateway's logger: no tokens, no keys, no headers. @param level a pino level, or `silent` */
export function createLogger(level: string): Logger {
  return pino({
    level,
    serializers: {
      req: ({ method, url, ip }: LoggedRequest) => ({
        method,
        // A token also stands where it does not belong: in the path, in another field.
        url: redact(url.replace(SECRET_QUERY_FIELDS, '$1[REDACTED]')),
        remoteAddress: ip
      }),
      err: (error: Error) => {
        const shown = stdSerializers.err(error)
        // A message may quote a command line or a URL; the stack repeats the message.
        return { ...shown, message: redact(shown.message), stack: redact(shown.stack) }
      }
    },
    redact: {
      paths: ['apiKey', 'token', 'ticket', 'password', '*.apiKey', '*.token', '*.ticket', '*.password'],
      censor: '[REDACTED]'
    }
  })
}
