import t from 'tap'
import { DELIVERY_LIMITS, Deliveries, type DeliveryLimits } from '../../src/webhooks/deliveries.ts'
import { judgeAnswer, retryDelayMs } from '../../src/webhooks/retry.ts'
import { isSignedBy, signBody } from '../../src/webhooks/signature.ts'
import type { Teardown } from '../support/gateway.ts'
import { eventually } from '../support/processes.ts'
import { WebhookReceiver } from '../support/webhook-receiver.ts'

const SECRET = 'a secret of thirty-two characters'

interface LogLine {
  message: string
  [field: string]: unknown
}

function deliveries(t: Teardown, url: string, limits: Partial<DeliveryLimits> = {}) {
  const log: LogLine[] = []
  const write = (fields: object, message: string) => void log.push({ ...fields, message })
  const queue = new Deliveries(
    { id: 'test', url, secret: SECRET },
    { info: write, warn: write },
    { ...DELIVERY_LIMITS, baseDelayMs: 20, maxDelayMs: 40, ...limits }
  )
  t.teardown(() => queue.close())
  return { queue, log }
}

function delivery(lane: string, n: number) {
  const id = `whd_${lane}_${n}`
  return { id, type: 'approval.requested', lane, body: JSON.stringify({ id, type: 'approval.requested' }) }
}

function logged(log: LogLine[], text: string): Promise<LogLine> {
  return eventually(`a log line "${text}"`, 10_000, () => log.find(({ message }) => message.includes(text)) as LogLine)
}

t.test('a signature fits one secret, one body and five minutes', (t) => {
  const nowMs = Date.parse('2026-01-02T03:04:05Z')
  const header = signBody(SECRET, '{"a":1}', nowMs)
  // By: printf '%s' '1767323045.{"a":1}' | openssl dgst -sha256 -hmac "$SECRET"
  t.equal(header, 't=1767323045,v1=00b0b115b057009f685a4eee31dba5c55645ceb9687e6355a95f2a2a06715e0f')
  t.ok(isSignedBy(SECRET, header, '{"a":1}', nowMs + 299_000))
  t.ok(isSignedBy(SECRET, `${header.replace('v1=', 'v1=00,v1=')}`, '{"a":1}', nowMs), 'any v1 may fit: keys rotate')
  t.notOk(isSignedBy(SECRET, header, '{"a":2}', nowMs))
  t.notOk(isSignedBy('another secret of thirty-two chars', header, '{"a":1}', nowMs))
  t.notOk(isSignedBy(SECRET, header, '{"a":1}', nowMs + 302_000), 'too old')
  t.notOk(isSignedBy(SECRET, header, '{"a":1}', nowMs - 302_000), 'of the future')
  t.notOk(isSignedBy(SECRET, header.replace('t=1767323045', 't=1767323046'), '{"a":1}', nowMs), 'the time is signed')
  for (const broken of ['', 't=1767323045', 'v1=00', 't=x,v1=zz', 't=,v1=', '=,=']) {
    t.notOk(isSignedBy(SECRET, broken, '{"a":1}', nowMs), broken)
  }
  t.end()
})

t.test('what an answer means, and how long to wait after it', (t) => {
  const nowMs = Date.parse('2026-01-02T03:04:05Z')
  for (const status of [200, 202, 204]) t.same(judgeAnswer(status, null, nowMs), { type: 'delivered' })
  for (const status of [500, 502, 503, 504, 429, 408]) t.match(judgeAnswer(status, null, nowMs), { canRetry: true })
  for (const status of [301, 302, 307, 400, 401, 404, 410])
    t.match(judgeAnswer(status, null, nowMs), { canRetry: false })
  t.match(judgeAnswer(429, '7', nowMs), { retryAfterMs: 7_000 })
  t.match(judgeAnswer(503, 'Fri, 02 Jan 2026 03:04:15 GMT', nowMs), { retryAfterMs: 10_000 })
  t.match(judgeAnswer(503, 'Thu, 01 Jan 2026 00:00:00 GMT', nowMs), { retryAfterMs: 0 })
  t.match(judgeAnswer(503, '86400', nowMs), { retryAfterMs: 120_000 }, 'not for longer than an approval is of use')
  t.match(judgeAnswer(503, 'soon', nowMs), { retryAfterMs: 0 })

  const backoff = { baseDelayMs: 1_000, maxDelayMs: 60_000 }
  t.same(
    [1, 2, 3, 8].map((attempt) => retryDelayMs(attempt, 0, backoff, 1)),
    [1_000, 2_000, 4_000, 60_000]
  )
  t.same(
    [1, 2, 3, 8].map((attempt) => retryDelayMs(attempt, 0, backoff, 0)),
    [500, 1_000, 2_000, 30_000]
  )
  t.equal(retryDelayMs(1, 7_000, backoff, 0.5), 7_000)
  t.end()
})

t.test(
  'deliveries of one approval keep their order over failures, those of another do not wait for them',
  async (t) => {
    const receiver = await WebhookReceiver.start(t)
    receiver.answer = (response, _number, { event }) => {
      const tries = receiver.received.filter((other) => other.event.id === event.id).length
      response.writeHead(event.id === 'whd_a_1' && tries <= 3 ? 500 : 200).end()
    }
    const { queue, log } = deliveries(t, receiver.url)
    for (const one of [delivery('a', 1), delivery('a', 2), delivery('b', 1)]) queue.enqueue(one)

    await receiver.waitForCount(6)
    const ids = receiver.received.map(({ event }) => event.id)
    t.same(
      ids.filter((id) => id.startsWith('whd_a')),
      ['whd_a_1', 'whd_a_1', 'whd_a_1', 'whd_a_1', 'whd_a_2']
    )
    t.ok(ids.indexOf('whd_b_1') < ids.lastIndexOf('whd_a_1'))
    t.match(await logged(log, 'after a retry'), { deliveryId: 'whd_a_1', attempts: 4, webhook: 'test' })
    for (const { headers, body } of receiver.received) {
      t.ok(isSignedBy(SECRET, String(headers['x-cloud-codex-signature']), body, Date.now()))
    }
  }
)

t.test('a receiver that asks for time gets it', async (t) => {
  const receiver = await WebhookReceiver.start(t)
  receiver.answer = (response, number) =>
    number === 0 ? response.writeHead(429, { 'retry-after': '1' }).end() : response.writeHead(200).end()
  const { queue } = deliveries(t, receiver.url)
  queue.enqueue(delivery('a', 1))
  await receiver.waitForCount(2)
  const [first, second] = receiver.received
  t.ok((second?.atMs ?? 0) - (first?.atMs ?? 0) >= 950)
})

t.test('a refusal is not tried again, and a redirect is not followed', async (t) => {
  const elsewhere = await WebhookReceiver.start(t)
  const receiver = await WebhookReceiver.start(t)
  receiver.answer = (response, number) =>
    number === 0 ? response.writeHead(400).end() : response.writeHead(307, { location: elsewhere.url }).end()
  const { queue, log } = deliveries(t, receiver.url)
  queue.enqueue(delivery('a', 1))
  t.match(await logged(log, 'given up'), { attempts: 1, reason: 'HTTP 400' })
  log.length = 0
  queue.enqueue(delivery('a', 2))
  t.match(await logged(log, 'given up'), { attempts: 1, reason: /redirects are not followed/ })
  await queue.close()
  t.same([receiver.received.length, elsewhere.received.length], [2, 0])
  t.notMatch(JSON.stringify(log), /secret/, 'neither the secret nor the path is in the log')
})

t.test('a receiver that never answers, and one that never ends its answer, are left after the bound', async (t) => {
  const silent = await WebhookReceiver.start(t)
  silent.answer = () => {}
  const first = deliveries(t, silent.url, { timeoutMs: 100, maxAttempts: 2 })
  first.queue.enqueue(delivery('a', 1))
  t.match(await logged(first.log, 'given up'), { attempts: 2, reason: /no answer within 100 ms/ })

  const endless = await WebhookReceiver.start(t)
  let isCut = false
  endless.answer = (response) => {
    response.writeHead(200)
    const writing = setInterval(() => response.write('x'.repeat(65_536)), 1)
    response.on('close', () => {
      clearInterval(writing)
      isCut = true
      first.log.push({ message: 'cut' })
    })
  }
  const second = deliveries(t, endless.url, { timeoutMs: 5_000 })
  second.queue.enqueue(delivery('a', 1))
  await logged(first.log, 'cut')
  t.ok(isCut, 'the answer is not read')
  await second.queue.close()
  t.same(second.log, [], 'and counts as delivered')
})

t.test('a dead receiver costs a bounded number of attempts and a bounded queue', async (t) => {
  const gone = await WebhookReceiver.start(t)
  await gone.stop()
  const { queue, log } = deliveries(t, gone.url, { maxAttempts: 3, maxQueued: 5 })
  for (let n = 1; n <= 50; n++) queue.enqueue(delivery(`lane${n}`, n))
  const linesOf = (text: string) => log.filter(({ message }) => message.includes(text))
  t.equal(linesOf('dropped').length, 1, 'one line for a run of dropped ones')
  await eventually('all are given up', 10_000, () => linesOf('given up').length === 5)
  for (const line of linesOf('given up'))
    t.match(line, { attempts: 3, reason: 'ECONNREFUSED', message: 'webhook delivery given up' })
  queue.enqueue(delivery('later', 1))
  await queue.close()
  t.equal(linesOf('given up').length, 6, 'there is room again afterwards')
})

t.test('no more requests are on the wire than allowed', async (t) => {
  const receiver = await WebhookReceiver.start(t)
  let open = 0
  let most = 0
  receiver.answer = (response) => {
    most = Math.max(most, ++open)
    setImmediate(() => {
      open--
      response.writeHead(204).end()
    })
  }
  const { queue } = deliveries(t, receiver.url, { maxConcurrent: 2 })
  for (let n = 0; n < 40; n++) queue.enqueue(delivery(`lane${n}`, n))
  await receiver.waitForCount(40)
  t.equal(most, 2)
})

t.test('closing tries what waits once more, and ends within its grace', async (t) => {
  const receiver = await WebhookReceiver.start(t)
  receiver.answer = (response, number) => {
    if (number === 0) response.writeHead(500).end()
    else if (number === 1) response.writeHead(204).end()
  }
  const { queue, log } = deliveries(t, receiver.url, { baseDelayMs: 60_000, maxDelayMs: 60_000, closeGraceMs: 200 })
  queue.enqueue(delivery('a', 1))
  await logged(log, 'tried again')
  queue.enqueue(delivery('a', 2))
  const startMs = Date.now()
  await queue.close()
  t.ok(Date.now() - startMs < 1_000, `${Date.now() - startMs} ms`)
  t.same(
    receiver.received.map(({ event }) => event.id),
    ['whd_a_1', 'whd_a_1', 'whd_a_2']
  )
  t.match(log.at(-1), { lost: 1, message: /are lost: the gateway shut down/ })

  queue.enqueue(delivery('b', 1))
  await queue.close()
  t.equal(receiver.received.length, 3, 'nothing is sent after the end')

  const failing = await WebhookReceiver.start(t)
  failing.answer = (response) => response.writeHead(500).end()
  const second = deliveries(t, failing.url, { baseDelayMs: 60_000, maxDelayMs: 60_000 })
  second.queue.enqueue(delivery('a', 1))
  await logged(second.log, 'tried again')
  await second.queue.close()
  t.equal(failing.received.length, 2, 'once more, not as often as it takes')
})
