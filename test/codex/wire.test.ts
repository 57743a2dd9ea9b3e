import { setImmediate as nextLoop } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { classifyLine, type IncomingLine, LineClassifier } from '../../src/codex/classify.ts'
import { LineSplitter, LineTooLong } from '../../src/codex/framing.ts'
import { RpcError, RpcPeer, type ServerCall } from '../../src/codex/rpc-peer.ts'

// The same cases in every run: what fails once must fail again.
fc.configureGlobal({ seed: 20_260_730 })

/** Splits a stream that arrives in pieces of these sizes (repeated). */
function split(stream: Buffer, sizes: number[], maxLineBytes = 1024): string[] {
  const splitter = new LineSplitter(maxLineBytes)
  const lines: string[] = []
  for (let at = 0, index = 0; at < stream.length; index++) {
    const size = sizes[index % sizes.length] ?? 1
    splitter.push(stream.subarray(at, at + size), (bytes, start, end) => lines.push(bytes.toString('utf8', start, end)))
    at += size
  }
  return lines
}

/** A line in the middle of other bytes, as the peer sees it. */
function classify(text: string, classifier = new LineClassifier()): IncomingLine {
  const bytes = Buffer.from(`{"method":"${text}\n${text}"}`)
  const start = bytes.indexOf('\n') + 1
  const method = classifier.notificationMethod(bytes, start, bytes.length - 2)
  return method === undefined ? classifyLine(bytes.subarray(start, bytes.length - 2)) : { kind: 'notification', method }
}

t.test('lines: the same, however the bytes are cut', async (t) => {
  const line = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replace(/[\r\n]/g, '\u2028'))
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (lines, sizes) => {
      const expected = lines.filter((text) => text !== '')
      for (const end of ['\n', '\r\n']) {
        const stream = Buffer.from(lines.map((text) => `${text}${end}`).join(''))
        if (JSON.stringify(split(stream, sizes)) !== JSON.stringify(expected)) return false
      }
      return true
    })
  )
  t.strictSame(split(Buffer.from('one\u2028still one\u2029\u0085\ntwo\n'), [1]), [
    'one\u2028still one\u2029\u0085',
    'two'
  ])
  t.strictSame(split(Buffer.from('whole\nhalf'), [3]), ['whole'], 'half a line is none')
  t.strictSame(split(Buffer.from('\n\r\n\n'), [1]), [])
})

t.test('a line over the cap ends the stream, however it is cut', async (t) => {
  const exact = Buffer.from(`${'x'.repeat(64)}\n`)
  for (const size of [1, 7, 65]) t.strictSame(split(exact, [size], 64), ['x'.repeat(64)], `pieces of ${size}`)
  for (const size of [1, 7, 200]) {
    t.throws(() => split(Buffer.from(`${'x'.repeat(130)}\n`), [size], 64), LineTooLong, `pieces of ${size}`)
  }
})

t.test('what a line is', async (t) => {
  const kinds: [string, object][] = [
    [
      '{"method":"turn/started","params":{"a":1},"emittedAtMs":1795353600000}',
      { kind: 'notification', method: 'turn/started' }
    ],
    ['{"method":"turn/started","params":{}}', { kind: 'notification', method: 'turn/started' }],
    ['{"method":"initialized"}', { kind: 'notification', method: 'initialized' }],
    ['{"params":{},"method":"x"}', { kind: 'notification', method: 'x' }],
    ['{"method":"x","id":0,"params":{}}', { kind: 'request', method: 'x', id: 0, params: {} }],
    ['{"method":"x","id":"a","params":{}}', { kind: 'request', method: 'x', id: 'a' }],
    ['{"id":3,"result":{}}', { kind: 'response', id: 3, result: {} }],
    ['{"id":3,"result":null}', { kind: 'response', id: 3, result: null }],
    ['{"error":{"code":-32600,"message":"no"},"id":3}', { kind: 'error', id: 3, error: { code: -32600 } }],
    ['{"error":{"code":-32600,"message":"no"},"id":null}', { kind: 'error', id: null }],
    ['not JSON', { kind: 'garbage' }],
    ['[{"method":"x"}]', { kind: 'garbage' }],
    ['null', { kind: 'garbage' }],
    ['{"method":"x","id":1.5}', { kind: 'garbage' }],
    ['{"method":"x","id":9007199254740993}', { kind: 'garbage' }],
    ['{"method":"x","id":null}', { kind: 'garbage' }],
    ['{"id":3}', { kind: 'garbage' }],
    ['{"method":"x","params":{},"emittedAtMs":12', { kind: 'garbage' }]
  ]
  for (const [line, expected] of kinds) t.match(classify(line), expected, line)
})

t.test('a request is never taken for a notification, wherever its id stands and whatever its texts say', async (t) => {
  const tails = [
    ',"emittedAtMs":1795353600000}',
    '{"method":"x","params":',
    '"}],"emittedAtMs":1}',
    '\\",\\"emittedAtMs\\":1}'
  ]
  const value = fc.oneof(fc.string(), fc.constantFrom(...tails), fc.integer(), fc.constant(null))
  const fields = fc.record({ params: fc.dictionary(fc.string(), value), id: fc.oneof(fc.nat(), fc.string()) })
  fc.assert(
    fc.property(fields, fc.constantFrom('first', 'last', 'after the time'), ({ params, id }, place) => {
      const message =
        place === 'first'
          ? { method: 'a/b', id, params }
          : place === 'last'
            ? { method: 'a/b', params, id }
            : { method: 'a/b', params, emittedAtMs: 1_795_353_600_000, id }
      return classify(JSON.stringify(message)).kind === 'request'
    })
  )
  fc.assert(
    fc.property(fields, ({ params }) => {
      const found = classify(JSON.stringify({ method: 'a/b', params, emittedAtMs: 1_795_353_600_000 }))
      return found.kind === 'notification' && found.method === 'a/b'
    })
  )
  t.pass()
})

interface SentMessage {
  id?: number | string
  method?: string
  [field: string]: unknown
}

function receiveText(peer: RpcPeer, text: string): void {
  const bytes = Buffer.from(text)
  peer.onLine(bytes, 0, bytes.length)
}

function peerWith() {
  const sent: SentMessage[] = []
  const texts: string[] = []
  const calls: ServerCall[] = []
  const garbage: string[] = []
  const notified: string[] = []
  const peer = new RpcPeer(
    (line) => {
      texts.push(line)
      sent.push(JSON.parse(line) as SentMessage)
    },
    {
      onNotification: (method) => notified.push(method),
      onRequest: (call) => calls.push(call),
      onGarbage: (reason) => garbage.push(reason)
    }
  )
  return {
    peer,
    sent,
    texts,
    calls,
    garbage,
    notified,
    receive: (message: object) => receiveText(peer, JSON.stringify(message))
  }
}

t.test('requests', async (t) => {
  await t.test('each answer goes to its own, in any order', async (t) => {
    const { peer, sent, receive } = peerWith()
    const answers = ['a', 'b', 'c'].map((method) => peer.request(method, {}, 1_000))
    t.strictSame(
      sent.map(({ method }) => method),
      ['a', 'b', 'c']
    )
    for (const { id, method } of [...sent].reverse()) receive({ id, result: `${method}!` })
    t.strictSame(await Promise.all(answers), ['a!', 'b!', 'c!'])
    receive({ id: sent[0]?.id, result: 'again' })
    receive({ id: 'a', result: 'not ours' })
    receive({ id: 999, error: { code: 1, message: 'nobody asked' } })
  })

  await t.test('a refusal rejects with its code and data', async (t) => {
    const { peer, sent, receive } = peerWith()
    const answer = peer.request('a', {}, 1_000)
    receive({ id: sent[0]?.id, error: { code: -32602, message: 'no', data: { x: 1 } } })
    await t.rejects(
      answer,
      Object.assign(new RpcError({ code: -32602, message: 'no' }), { rpcCode: -32602, data: { x: 1 } })
    )
  })

  await t.test('at most 32 are out at once; each answer lets the next go, in order', async (t) => {
    const { peer, sent, receive } = peerWith()
    const answers = Array.from({ length: 100 }, (_, index) => peer.request(`m${index}`, {}, 10_000))
    t.equal(sent.length, 32)
    for (let index = 0; index < 100; index++) receive({ id: sent[index]?.id, result: index })
    t.strictSame(
      await Promise.all(answers),
      Array.from({ length: 100 }, (_, index) => index)
    )
    t.strictSame(
      sent.map(({ method }) => method),
      Array.from({ length: 100 }, (_, index) => `m${index}`)
    )
  })

  await t.test('a full queue refuses at once', async (t) => {
    const { peer } = peerWith()
    const waiting = Array.from({ length: 32 + 1024 }, () => peer.request('m', {}, 60_000))
    await t.rejects(peer.request('m', {}, 60_000), { code: 'CC_TOO_MANY_IN_FLIGHT' })
    peer.close()
    const ends = await Promise.allSettled(waiting)
    t.ok(ends.every((end) => end.status === 'rejected' && end.reason.code === 'CC_PROCESS_EXITED'))
  })

  await t.test('one that is not answered times out, makes room, and its late answer changes nothing', async (t) => {
    const { peer, sent, receive } = peerWith()
    const slow = Array.from({ length: 32 }, () => peer.request('slow', {}, 20))
    const queued = peer.request('queued', {}, 10_000)
    const neverSent = peer.request('never', {}, 1)
    await t.rejects(neverSent, { code: 'CC_REQUEST_TIMEOUT' }, 'also while it is queued')
    for (const end of await Promise.allSettled(slow)) {
      t.match(end, { status: 'rejected', reason: { code: 'CC_REQUEST_TIMEOUT', message: /"slow" within 20 ms/ } })
    }
    t.strictSame(
      sent.slice(32).map(({ method }) => method),
      ['queued']
    )
    receive({ id: sent[0]?.id, result: 'late' })
    receive({ id: sent[32]?.id, result: 'yes' })
    t.equal(await queued, 'yes')
  })

  await t.test('the end of the connection rejects everything now, and all that comes after', async (t) => {
    const { peer, sent, receive, calls } = peerWith()
    const waiting = Array.from({ length: 40 }, () => peer.request('m', {}, 60_000))
    receive({ id: 0, method: 'item/x', params: {} })
    peer.close()
    peer.close()
    for (const end of await Promise.allSettled(waiting)) t.match(end, { reason: { code: 'CC_PROCESS_EXITED' } })
    await t.rejects(peer.request('m', {}, 60_000), { code: 'CC_PROCESS_EXITED' })
    const count = sent.length
    calls[0]?.respond('late')
    peer.notify('late')
    receive({ id: sent[0]?.id, result: 'late' })
    await nextLoop()
    t.equal(sent.length, count, 'nothing is written any more')
  })
})

t.test('codex asks: its ids are its own, and are answered as they came', async (t) => {
  const { peer, sent, receive, calls } = peerWith()
  void peer.request('m', {}, 60_000).catch(() => {})
  receive({ id: 1, method: 'item/a', params: { x: 1 } })
  receive({ id: 'one', method: 'item/b' })
  t.match(calls, [
    { id: 1, method: 'item/a', params: { x: 1 } },
    { id: 'one', method: 'item/b', params: undefined }
  ])
  calls[0]?.respond({ decision: 'accept' })
  calls[1]?.respondError({ code: -32601, message: 'no' })
  t.match(sent.slice(1), [
    { id: 1, result: { decision: 'accept' } },
    { id: 'one', error: { code: -32601, message: 'no' } }
  ])
  peer.close()
})

t.test('garbage and notifications go where they belong and settle nothing', async (t) => {
  const { peer, notified, garbage } = peerWith()
  let isSettled = false
  const answer = peer.request('m', {}, 60_000).finally(() => (isSettled = true))
  for (const line of ['', 'nonsense', '{}', '{"id":1}', '[1]', '{"method":"a/b","params":{}}']) receiveText(peer, line)
  await nextLoop()
  t.notOk(isSettled)
  t.strictSame(notified, ['a/b'])
  t.equal(garbage.length, 5)
  peer.close()
  await t.rejects(answer)
})

t.test('what is written is one line of text that codex can read', async (t) => {
  const { peer, texts } = peerWith()
  const write = (text: string) => {
    peer.notify('m', { [text]: text })
    return texts.at(-1) ?? ''
  }
  t.match(write('half \ud83d of a pair \udc00'), 'half \\ufffd of a pair \\ufffd')
  fc.assert(
    fc.property(
      fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)) }),
      (text) => {
        const line = write(text)
        const { params } = JSON.parse(line)
        const [[name, value] = []] = Object.entries(params)
        return (
          line.endsWith('\n') && line.indexOf('\n') === line.length - 1 && name === wellFormed(text) && value === name
        )
      }
    )
  )
  for (const text of ['\\ud800', '\\\\ud800', '\\\\\ud800', '"\\ud83d\ud83d\ude00', '\u2028\r\n']) {
    t.equal(Object.values(JSON.parse(write(text)).params)[0], wellFormed(text))
  }
})

/** Half of a surrogate pair becomes U+FFFD. */
function wellFormed(text: string): string {
  return Buffer.from(text, 'utf8').toString('utf8')
}
