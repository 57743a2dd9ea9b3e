import { get as httpGet, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import type { Teardown } from './gateway.ts'
import type { Received } from './ws-client.ts'

export interface SentEvent {
  /** The place of the client after it: what it was told last. */
  id: string
  /** Whether this event moved it. */
  hasOwnId: boolean
  type: string
  message: Received & { replaces?: { from: number; to: number } }
}

const WAIT_TIMEOUT_MS = 20_000

/** A client of server-sent events, as the HTML standard describes one, that a test can cut and pause. */
export class EventSource {
  readonly headers: IncomingHttpHeaders
  readonly events: SentEvent[] = []
  readonly comments: string[] = []
  retryMs: number | undefined
  lastEventId: string
  isEnded = false
  readonly #response: IncomingMessage
  #rest = ''
  #waiters: (() => void)[] = []

  private constructor(response: IncomingMessage, lastEventId: string) {
    this.#response = response
    this.headers = response.headers
    this.lastEventId = lastEventId
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => this.#onData(chunk))
    response.on('error', () => {})
    response.on('close', () => {
      this.isEnded = true
      this.#wake()
    })
  }

  /** Rejects with the status and body of an answer that is no stream. */
  static async open(
    t: Teardown,
    url: string,
    { lastEventId, headers = {} }: { lastEventId?: string; headers?: Record<string, string> } = {}
  ): Promise<EventSource> {
    const id = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpGet(
        url,
        { agent: false, headers: { accept: 'text/event-stream', ...id, ...headers } },
        resolve
      )
      request.on('error', reject)
    })
    t.teardown(() => response.destroy())
    if (response.headers['content-type'] === 'text/event-stream; charset=utf-8') {
      return new EventSource(response, lastEventId ?? '')
    }
    let body = ''
    for await (const chunk of response) body += chunk
    throw Object.assign(new Error(`HTTP ${response.statusCode}`), { statusCode: response.statusCode, body })
  }

  /** Numbers, in order of arrival. */
  get seqs(): number[] {
    return this.events.flatMap(({ message }) => message.seq ?? [])
  }

  cut(): void {
    this.#response.destroy()
  }

  pause(): void {
    this.#response.pause()
  }

  resume(): void {
    this.#response.resume()
  }

  /** The first event that matches, also if it came already; rejects when the stream ends before. */
  async waitFor(what: string, matches: (event: SentEvent) => boolean): Promise<SentEvent> {
    await this.until(what, () => this.events.some(matches) || this.isEnded)
    const found = this.events.find(matches)
    if (!found) throw new Error(`the stream ended before ${what}`)
    return found
  }

  waitForTurnEnd(turnId: string): Promise<SentEvent> {
    const isEnd = ({ payload }: Received) => payload.method === 'turn/completed' && payload.params.turn.id === turnId
    return this.waitFor('the end of the turn', ({ message }) => isEnd(message))
  }

  until(what: string, isSo: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const last = this.events.slice(-5).map((event) => JSON.stringify(event).slice(0, 200))
        reject(new Error(`no ${what} within ${WAIT_TIMEOUT_MS} ms; last events:\n${last.join('\n')}`))
      }, WAIT_TIMEOUT_MS)
      const look = () => {
        if (!isSo()) {
          this.#waiters.push(look)
          return
        }
        clearTimeout(timer)
        resolve()
      }
      look()
    })
  }

  #wake(): void {
    for (const look of this.#waiters.splice(0)) look()
  }

  #onData(chunk: string): void {
    const blocks = (this.#rest + chunk).split('\n\n')
    this.#rest = blocks.pop() ?? ''
    for (const block of blocks) this.#onBlock(block)
    this.#wake()
  }

  #onBlock(block: string): void {
    let type = 'message'
    let data = ''
    let hasOwnId = false
    for (const line of block.split(/\r\n|\n|\r/)) {
      const colon = line.indexOf(':')
      const value = line.slice(colon + 1).replace(/^ /, '')
      switch (line.slice(0, colon)) {
        case '':
          this.comments.push(value)
          break
        case 'id':
          this.lastEventId = value
          hasOwnId = true
          break
        case 'event':
          type = value
          break
        case 'data':
          data += value
          break
        case 'retry':
          this.retryMs = Number(value)
      }
    }
    if (data !== '') this.events.push({ id: this.lastEventId, hasOwnId, type, message: JSON.parse(data) })
  }
}
