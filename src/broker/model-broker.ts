import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { Agent, type Dispatcher, errors } from 'undici'
import {
  describeError,
  MessageTooLarge,
  ModelKeyRefused,
  ModelPathDenied,
  ModelSilent,
  ModelTokenInvalid,
  ModelUnreachable,
  ShuttingDown
} from '../../errors.ts'
import { requestHeaders, responseHeaders } from './headers.ts'
import { modelNameOf } from './model-name.ts'
import { type ModelGrant, ProcessTokens, type TokenOwner } from './process-tokens.ts'
import type { Admission, MeteredRequest } from './usage-meter.ts'
import { UsageScanner } from './usage-scanner.ts'

/** A long conversation with pictures in it. */
export const MAX_REQUEST_BYTES = 64 * 1024 * 1024
const MAX_ERROR_BYTES = 64 * 1024
const CONNECT_TIMEOUT_MS = 10_000
/** What codex sends a request for an answer to; it needs no other path. */
const MODEL_PATH = '/v1/responses'
const UNKNOWN_MODEL = 'unknown'

export interface BrokerLog {
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface ModelBrokerOptions {
  /** Base URL of a Responses API, as codex's own `base_url`. */
  upstream: string
  /** undefined: the endpoint is asked without a key. */
  apiKey: string | undefined
  /** How long the endpoint may be silent, before its answer and in the middle of it. */
  timeoutMs: number
  /** Lets a request through, and hears of its end; rejects with a coded error for one that is not. */
  admit(request: MeteredRequest): Promise<Admission>
  log: BrokerLog
}

/** What is learned of a request while it passes. */
interface Watch {
  scanner: UsageScanner
  model: string
}

interface Refusal {
  statusCode: number
  headers: Record<string, string | string[]>
  body: string
}

/**
 * The model endpoint that codex processes know: it takes their tokens, and asks the real endpoint with the real key,
 * which no process ever has. Answers go through as bytes, at the pace of the slower side; errors go through as they are.
 */
export class ModelBroker {
  readonly #options: ModelBrokerOptions
  readonly #tokens = new ProcessTokens()
  readonly #agent: Agent
  readonly #origin: string
  readonly #path: string
  readonly #running = new Set<AbortController>()
  #isClosed = false

  constructor(options: ModelBrokerOptions) {
    this.#options = options
    const { origin, pathname, search } = new URL(options.upstream)
    this.#origin = origin
    this.#path = `${pathname.replace(/\/+$/, '')}/responses${search}`
    const { timeoutMs } = options
    this.#agent = new Agent({
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      connect: { timeout: Math.min(timeoutMs, CONNECT_TIMEOUT_MS) }
    })
  }

  /** A token for one process of the user; to be revoked when the process is gone. */
  grant(userId: string): ModelGrant {
    return this.#tokens.grant(userId)
  }

  /** Answers one request of a codex process. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const abort = new AbortController()
    const stop = () => abort.abort()
    this.#running.add(abort)
    // Also when codex hangs up, so that nobody pays for what nobody reads.
    response.once('close', stop)
    let owner: TokenOwner | undefined
    try {
      owner = this.#tokens.ownerOf(request.headers.authorization)
      const { userId, revoked } = this.#check(request, owner)
      revoked.addEventListener('abort', stop)
      try {
        await this.#meter(request, response, userId, abort.signal)
      } finally {
        revoked.removeEventListener('abort', stop)
      }
    } catch (error) {
      this.#fail(response, error as Error, owner?.userId)
    } finally {
      this.#running.delete(abort)
    }
  }

  /** Ends what runs. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const abort of this.#running) abort.abort()
    await this.#agent.destroy()
  }

  #check({ method, url, headers }: IncomingMessage, owner: TokenOwner | undefined): TokenOwner {
    if (this.#isClosed) throw new ShuttingDown()
    if (!owner) throw new ModelTokenInvalid()
    if (method !== 'POST' || url !== MODEL_PATH) throw new ModelPathDenied(method, url?.slice(0, 100))
    // A length that is said is one that node holds the body to; codex always says it.
    const length = Number(headers['content-length'] ?? Number.NaN)
    if (!(length <= MAX_REQUEST_BYTES)) throw new MessageTooLarge(MAX_REQUEST_BYTES)
    return owner
  }

  async #meter(request: IncomingMessage, response: ServerResponse, userId: string, signal: AbortSignal) {
    const admission = await this.#options.admit({ userId, threadId: threadOf(request) })
    const watch = { scanner: new UsageScanner(), model: UNKNOWN_MODEL }
    try {
      await this.#forward(request, response, signal, watch)
    } finally {
      admission.end(watch.model, watch.scanner.usage)
    }
  }

  async #forward(request: IncomingMessage, response: ServerResponse, signal: AbortSignal, watch: Watch): Promise<void> {
    const { apiKey } = this.#options
    const answer = await this.#agent.request({
      origin: this.#origin,
      path: this.#path,
      method: 'POST',
      headers: requestHeaders(request.headers, apiKey),
      body: Readable.from(readBody(request, watch), { objectMode: false }),
      signal
    })
    if (answer.statusCode >= 400) {
      const refusal = await readRefusal(answer, apiKey)
      if (answer.statusCode === 401 || answer.statusCode === 403) {
        this.#options.log.error({ statusCode: answer.statusCode }, 'the model endpoint refuses the key')
      }
      response.writeHead(refusal.statusCode, refusal.headers).end(refusal.body)
      return
    }
    response.writeHead(answer.statusCode, responseHeaders(answer.headers))
    // codex takes the silence before the first byte for that of an endpoint that is away.
    response.flushHeaders()
    for await (const chunk of answer.body) {
      const hasRoom = response.write(chunk)
      // Behind the write: counting must not hold the stream up.
      watch.scanner.push(chunk)
      if (!hasRoom) await once(response, 'drain', { signal })
    }
    response.end()
  }

  #fail(response: ServerResponse, error: Error, userId: string | undefined): void {
    const { log, timeoutMs } = this.#options
    const coded = codedError(error, timeoutMs)
    if (!response.destroyed) log.warn({ userId, code: coded.code, cause: error.message }, 'no answer of the model')
    if (response.headersSent) {
      // Cut, not ended: half an answer must not pass for a whole one.
      response.destroy()
      return
    }
    const { statusCode, payload } = describeError(coded)
    const { code, message, details: { retryAfter, resetsAt } = {} } = payload
    const headers = {
      'content-type': 'application/json',
      // What is left of the request is not waited for.
      connection: 'close',
      ...(typeof retryAfter === 'number' ? { 'retry-after': String(retryAfter) } : {})
    }
    // Of this type codex knows that trying again is of no use, and says when it will be.
    const limit = { type: 'usage_limit_reached', resets_at: Date.parse(String(resetsAt)) / 1000 }
    const shown = { type: code, code, message, ...(resetsAt === undefined ? {} : limit) }
    response.writeHead(statusCode, headers).end(JSON.stringify({ error: shown }))
  }
}

/** The thread that codex says it works on. */
function threadOf({ headers }: IncomingMessage): string | null {
  const id = headers['thread-id']
  return typeof id === 'string' && /^[\w-]{1,256}$/.test(id) ? id : null
}

async function* readBody(request: IncomingMessage, watch: Watch): AsyncGenerator<Buffer> {
  let isFirst = true
  for await (const chunk of request as AsyncIterable<Buffer>) {
    if (isFirst) watch.model = modelNameOf(chunk) ?? UNKNOWN_MODEL
    isFirst = false
    yield chunk
  }
}

function codedError(error: Error, timeoutMs: number): Error & { code?: string } {
  const { code } = error as { code?: unknown }
  if (typeof code === 'string' && code.startsWith('CC_')) return error
  if (error instanceof errors.HeadersTimeoutError || error instanceof errors.BodyTimeoutError) {
    return new ModelSilent(timeoutMs)
  }
  return new ModelUnreachable(typeof code === 'string' ? code : error.name)
}

/** An error of the endpoint, whole and without the key, which some endpoints repeat. */
async function readRefusal(answer: Dispatcher.ResponseData, apiKey: string | undefined): Promise<Refusal> {
  const { statusCode } = answer
  const { 'content-length': _, 'content-encoding': _encoding, ...headers } = responseHeaders(answer.headers)
  let body = ''
  for await (const chunk of answer.body.setEncoding('utf8')) {
    body += chunk
    if (body.length > MAX_ERROR_BYTES) break
  }
  if (statusCode === 401 || statusCode === 403) {
    // OpenAI's own text shows both ends of the key.
    const { code, message } = new ModelKeyRefused()
    body = JSON.stringify({ error: { type: code, code, message } })
  }
  return { statusCode, headers, body: apiKey === undefined ? body : body.replaceAll(apiKey, '[key]') }
}
