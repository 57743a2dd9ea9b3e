import t from 'tap'
import { encodeFrame, messagesIn } from '../../src/journal/frames.ts'
import { frameOf } from '../../src/native/native-frames.ts'
import { Outlet, type OutletHandlers } from '../../src/native/outlet.ts'
import type { ClientSink } from '../../src/session/client.ts'

const PASS_ALL: OutletHandlers = { passEvent: () => true, translate: () => [] }

/** An outlet over a sink that keeps what it gets, as texts. */
function stage(handlers: Partial<OutletHandlers> = {}, seq = 0) {
  const sent: string[] = []
  const drained: (() => void)[] = []
  const sink: ClientSink = {
    send: (frames) => {
      for (const frame of frames) for (const message of messagesIn(frame)) sent.push(message.toString('utf8'))
    },
    bufferedBytes: 0,
    onDrained: (callback) => void drained.push(callback),
    close: () => {}
  }
  return { outlet: new Outlet(sink, seq, { ...PASS_ALL, ...handlers }), sent, drained }
}

const line = (n: number) => `{"method":"m${n}","params":{"n":${n}},"emittedAtMs":1}`
const event = (n: number) => encodeFrame({ type: 'event', seq: n, payload: JSON.parse(line(n)) })
const reply = (text: string) => [frameOf(Buffer.from(`"${text}"`))]

t.test('an event goes out as codex wrote it, byte by byte, in frames of any size', (t) => {
  const { outlet, sent } = stage()
  const bodies = ['', 'ü', 'x'.repeat(80), 'x'.repeat(125), 'x'.repeat(200), 'x'.repeat(70_000)]
  const lines = bodies.map((text) => `{"method":"m","params":{"text":"${text}","big":12345678901234567890,"one":1.0}}`)
  const frames = lines.map((text, index) =>
    frameOf(Buffer.from(`{"type":"event","seq":${index + 1},"payload":`), Buffer.from(text), Buffer.from('}'))
  )
  outlet.send([Buffer.concat(frames.slice(0, 3)), Buffer.concat(frames.slice(3))])
  t.strictSame(sent, lines)
  t.end()
})

t.test('other messages become what the translation says, at their place', (t) => {
  const { outlet, sent } = stage({
    passEvent: (bytes, start, end) => !bytes.toString('utf8', start, end).includes('m2'),
    translate: (type) => (type === 'approval/request' ? reply('asked') : [])
  })
  const ready = encodeFrame({ type: 'session/ready', payload: {} })
  const approval = encodeFrame({ type: 'approval/request', seq: 3, payload: {} })
  outlet.send([ready, Buffer.concat([event(1), event(2), approval, event(4)])])
  t.strictSame(sent, [line(1), '"asked"', line(4)])
  t.end()
})

t.test('a reply goes out behind what came before it and before what came later', (t) => {
  const { outlet, sent, drained } = stage({}, 10)
  const [first, second] = [outlet.reserve(11), outlet.reserve(13)]
  outlet.send([Buffer.concat([event(11), event(12)])])
  outlet.send([event(13), Buffer.concat([event(14), event(15)])])
  t.strictSame(sent, [line(11)], 'the first reply is not ready')
  t.ok(outlet.bufferedBytes > 0, 'what waits counts as unsent')
  let isFree = false
  outlet.onDrained(() => (isFree = true))

  outlet.fill(second, () => reply('second'))
  t.strictSame(sent, [line(11)], 'the second is, but it is not its turn')
  outlet.fill(first, () => reply('first'))
  t.strictSame(sent, [line(11), '"first"', line(12), line(13), '"second"', line(14), line(15)])
  t.equal(outlet.bufferedBytes, 0)
  for (const callback of drained) callback()
  t.ok(isFree)
  t.end()
})

t.test('a reply that is ready waits for what codex said before it', (t) => {
  const { outlet, sent } = stage()
  outlet.fill(outlet.reserve(2), () => reply('reply'))
  t.strictSame(sent, [])
  outlet.send([event(1)])
  t.strictSame(sent, [line(1)])
  outlet.send([Buffer.concat([event(2), event(3)])])
  t.strictSame(sent, [line(1), line(2), '"reply"', line(3)])
  t.end()
})

t.test('what the reply changes counts for the events behind it alone', (t) => {
  let isSubscribed = false
  const { outlet, sent } = stage({ passEvent: () => isSubscribed })
  const slot = outlet.reserve(2)
  outlet.send([Buffer.concat([event(1), event(2), event(3)]), event(4)])
  outlet.fill(slot, () => {
    isSubscribed = true
    return reply('resumed')
  })
  t.strictSame(sent, ['"resumed"', line(3), line(4)])
  t.end()
})
