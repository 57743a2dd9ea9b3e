import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { WebhookEvent } from '../../schemas/webhooks.ts'
import type { Teardown } from './gateway.ts'

export interface ReceivedDelivery {
  headers: IncomingHttpHeaders
  /** As it came, which is what the signature is of. */
  body: string
  event: WebhookEvent
  atMs: number
}

/** Answers a delivery; its number counts from 0. Not answering at all is an answer too. */
export type Answer = (response: ServerResponse, number: number, delivery: ReceivedDelivery) => void

const WAIT_TIMEOUT_MS = 20_000

/** A webhook's receiver on a loopback port, that keeps everything it gets and answers as it is told (default: 204). */
export class WebhookReceiver {
  readonly received: ReceivedDelivery[] = []
  url = ''
  answer: Answer = (response) => response.writeHead(204).end()
  /** Closes the port: whoever connects is refused. */
  stop: () => Promise<void> = async () => {}
  #waiters: (() => void)[] = []

  static async start(t: Teardown): Promise<WebhookReceiver> {
    const receiver = new WebhookReceiver()
    const server = createServer((request, response) => {
      let body = ''
      request.setEncoding('utf8')
      request.on('data', (chunk: string) => {
        body += chunk
      })
      request.on('end', () => {
        const event = JSON.parse(body) as WebhookEvent
        const delivery = { headers: request.headers, body, event, atMs: Date.now() }
        receiver.received.push(delivery)
        receiver.answer(response, receiver.received.length - 1, delivery)
        for (const wake of receiver.#waiters) wake()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    receiver.stop = async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    }
    t.teardown(() => (server.listening ? receiver.stop() : undefined))
    receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook/secret-path`
    return receiver
  }

  /** The first event that matches, also if it came already. */
  async waitFor(type: WebhookEvent['type'], matches: (event: WebhookEvent) => boolean = () => true) {
    const { event } = await this.#find((delivery) => delivery.event.type === type && matches(delivery.event), type)
    return event
  }

  async waitForCount(count: number): Promise<void> {
    await this.#find(() => this.received.length >= count, `${count} deliveries`)
  }

  async #find(matches: (delivery: ReceivedDelivery) => boolean, what: string): Promise<ReceivedDelivery> {
    const deadlineMs = Date.now() + WAIT_TIMEOUT_MS
    for (;;) {
      const found = this.received.find(matches)
      if (found) return found
      await new Promise<void>((resolve, reject) => {
        const seen = () => this.received.map(({ event }) => event.type).join(', ')
        const late = () => reject(new Error(`no ${what} within ${WAIT_TIMEOUT_MS} ms; received: ${seen()}`))
        const timer = setTimeout(late, deadlineMs - Date.now())
        this.#waiters.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
  }
}
