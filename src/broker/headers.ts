import type { IncomingHttpHeaders } from 'node:http'

/** What of codex's request the model endpoint gets. `x-codex-turn-metadata` is none of it: it names host paths. */
const REQUEST_HEADERS = [
  'accept',
  'content-type',
  'content-length',
  'originator',
  'user-agent',
  'session-id',
  'thread-id',
  'x-client-request-id',
  'x-codex-beta-features',
  'x-codex-turn-state',
  'x-codex-window-id',
  'x-openai-internal-codex-responses-lite',
  'x-openai-subagent'
] as const

/** What of the model endpoint's answer codex gets. No cookie, and nothing that names the key's owner. */
const RESPONSE_HEADERS = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'etag',
  'retry-after',
  'retry-after-ms',
  'x-request-id',
  'openai-model',
  'openai-processing-ms',
  'openai-version',
  'x-models-etag',
  'x-reasoning-included',
  'x-should-retry'
])
const RESPONSE_PREFIXES = ['x-ratelimit-', 'x-codex-']

/** The headers of the request to the model endpoint. @param apiKey undefined: no Authorization */
export function requestHeaders(headers: IncomingHttpHeaders, apiKey: string | undefined): Record<string, string> {
  const passed: Record<string, string> = {}
  for (const name of REQUEST_HEADERS) {
    const value = headers[name]
    if (typeof value === 'string') passed[name] = value
  }
  if (apiKey !== undefined) passed.authorization = `Bearer ${apiKey}`
  return passed
}

/** The headers of the answer to codex. */
export function responseHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const passed: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) {
    const isPassed = RESPONSE_HEADERS.has(name) || RESPONSE_PREFIXES.some((prefix) => name.startsWith(prefix))
    if (isPassed && value !== undefined) passed[name] = value
  }
  return passed
}
