import type { RandomNumbers } from './random-numbers.ts'
import { encodeRawFrame, textFrame } from './raw-web-socket.ts'

/** What is written to a connection. */
export interface Hostility {
  kind: string
  bytes: Buffer
  /** Nothing that follows on the same connection is read: it is closed, or still waits for the rest of this. */
  isLast?: 'closes' | 'unfinished'
}

const ID = '01a203b7-0000-7000-8000-000000000000'
const METHODS = [
  'thread/start',
  'thread/read',
  'thread/list',
  'turn/start',
  'turn/interrupt',
  'model/list',
  'fs/readFile',
  'fs/writeFile',
  'command/exec',
  'process/spawn',
  'config/value/write',
  'account/login/start',
  'approval/respond',
  'approval/extend',
  'session/resume',
  'auth/refresh',
  'ping',
  'initialize',
  'initialized',
  '__proto__',
  'constructor',
  'thread/start\u0000',
  ''
]
const ODD_VALUES = [
  'null',
  'true',
  '-1',
  '1.5',
  '1e400',
  '-0',
  '9007199254740993',
  '123456789012345678901234567890',
  '""',
  '"\\u0000"',
  '"\\ud83d"',
  '{}',
  '[]',
  '[[]]',
  '{"__proto__":{"isAdmin":true}}',
  '{"constructor":{"prototype":{}}}',
  '"../../../../etc/passwd"',
  `"${'x'.repeat(70_000)}"`
]
const FIELDS = ['threadId', 'turnId', 'input', 'cwd', 'path', 'limit', 'cursor', 'approvalId', 'decision', 'since', 'x']
const MIB = 1024 * 1024

type Maker = (random: RandomNumbers) => Omit<Hostility, 'kind'>

/** Each in the words of both protocols, since each is sent to both. */
const MAKERS: Record<string, Maker> = {
  'broken JSON': (random) => {
    const whole = Buffer.from(request(random))
    for (let n = random.below(4); n >= 0; n--) whole[random.below(whole.length)] = random.below(128)
    return { bytes: textFrame(whole.subarray(0, random.below(whole.length + 1))) }
  },
  'no object': (random) => ({ bytes: textFrame(random.pick([...ODD_VALUES, '', ' ', '\n', '{', '"', '{}{}'])) }),
  'wrong ids': (random) => {
    const id = random.pick(ODD_VALUES)
    const method = JSON.stringify(random.pick(METHODS))
    const isNative = random.below(2) === 0
    const native = `{"id":${id},"method":${method},"params":{}}`
    return { bytes: textFrame(isNative ? native : `{"type":${method},"requestId":${id},"payload":{}}`) }
  },
  'wrong fields': (random) => ({ bytes: textFrame(request(random)) }),
  'answers to nothing': (random) => {
    const id = random.pick(['0', '1', '2', '3', '"a"', '-1', '9007199254740993'])
    const result = random.pick(['{"decision":"accept"}', '{"decision":"acceptForSession"}', '{}', 'null', '[]'])
    const body = random.below(3) === 0 ? `"error":{"code":-1,"message":"x"}` : `"result":${result}`
    return { bytes: textFrame(`{"id":${id},${body}}`) }
  },
  'out of order': (random) => {
    const clientInfo = '{"name":"x","title":null,"version":"0"}'
    const steps = [
      `{"id":1,"method":"initialize","params":{"clientInfo":${clientInfo},"capabilities":{}}}`,
      `{"id":2,"method":"initialize","params":{}}`,
      `{"id":2,"method":"initialize","params":{"clientInfo":${random.pick(ODD_VALUES)}}}`,
      `{"id":2,"method":"initialize","params":{"clientInfo":${clientInfo},"capabilities":${random.pick(ODD_VALUES)}}}`,
      '{"method":"initialized"}',
      '{"method":"initialized","params":[]}',
      '{"id":3,"method":"thread/list","params":{}}',
      `{"id":4,"method":"turn/start","params":{"threadId":"${ID}","input":[]}}`
    ]
    return { bytes: Buffer.concat([random.pick(steps), random.pick(steps), random.pick(steps)].map(textFrame)) }
  },
  deep: (random) => {
    const levels = random.pick([65, 129, 1_000, 20_000])
    const [open, close] = random.pick([
      ['[', ']'],
      ['{"a":', '}']
    ])
    const nested = `${open.repeat(levels)}1${close.repeat(levels)}`
    const native = `{"id":1,"method":"turn/start","params":{"threadId":"${ID}","outputSchema":${nested}}}`
    return { bytes: textFrame(random.pick([nested, native, native.replace('"method"', '"type"')])) }
  },
  giant: (random) => {
    const filler = Buffer.alloc(random.pick([1, 4, 17]) * MIB, random.pick([0x20, 0x61, 0x5b]))
    const head = random.pick(['', '{"id":1,"method":"thread/list","params":{"x":"', '{"type":"ping","payload":{"x":"'])
    return { bytes: textFrame(Buffer.concat([Buffer.from(head), filler, Buffer.from('"}}')])) }
  },
  'a length that is a lie': (random) => {
    const length = random.pick([2n ** 63n - 1n, 2n ** 62n, 2n ** 53n, 2n ** 40n, 65_536n])
    return { bytes: encodeRawFrame({ payload: Buffer.from('{"id":1'), length }), isLast: 'unfinished' }
  },
  binary: (random) => ({ bytes: encodeRawFrame({ opcode: 2, payload: noise(random, 300) }) }),
  unmasked: (random) => ({
    bytes: encodeRawFrame({ masked: false, payload: Buffer.from(request(random)) }),
    isLast: 'closes'
  }),
  fragmented: (random) => {
    const whole = Buffer.from(request(random).slice(0, 2_000))
    const parts: Buffer[] = []
    for (let at = 0, opcode = 1; at < whole.length; opcode = 0) {
      const size = 1 + random.below(whole.length)
      parts.push(encodeRawFrame({ opcode, fin: at + size >= whole.length, payload: whole.subarray(at, at + size) }))
      if (random.below(3) === 0) parts.push(encodeRawFrame({ opcode: 9 }))
      at += size
    }
    return { bytes: Buffer.concat(parts) }
  },
  'a thousand fragments': () => {
    const part = encodeRawFrame({ opcode: 0, fin: false, payload: Buffer.from(' ') })
    const [first, last] = [encodeRawFrame({ fin: false }), encodeRawFrame({ opcode: 0 })]
    return { bytes: Buffer.concat([first, ...Array<Buffer>(1_000).fill(part), last]) }
  },
  'fragments in disorder': (random) => {
    const start = encodeRawFrame({ fin: false, payload: Buffer.from('{"id":') })
    const lone = encodeRawFrame({ opcode: 0, payload: Buffer.from('1}') })
    const parts = random.pick([[lone], [start, start], [start, textFrame('{}')]])
    return { bytes: Buffer.concat(parts), isLast: 'closes' }
  },
  'bad UTF-8': (random) => {
    const bad = random.pick([[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xe2, 0x82]])
    const text = Buffer.concat([Buffer.from('{"id":"'), Buffer.from(bad), Buffer.from('"}')])
    return { bytes: encodeRawFrame({ payload: text }), isLast: 'closes' }
  },
  'reserved bits': (random) => ({
    bytes: encodeRawFrame({ reserved: 1 + random.below(7), payload: Buffer.from('{}') }),
    isLast: 'closes'
  }),
  'reserved opcodes': (random) => ({
    bytes: encodeRawFrame({ opcode: random.pick([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), payload: noise(random, 20) }),
    isLast: 'closes'
  }),
  'control frames': (random) => {
    const frame = random.pick([
      { opcode: random.pick([8, 9, 10]), payload: Buffer.alloc(126) },
      { opcode: random.pick([8, 9, 10]), fin: false },
      { opcode: 8, payload: random.pick([Buffer.from([3]), Buffer.from([0, 0]), Buffer.from([0x03, 0xed])]) },
      { opcode: 8, payload: Buffer.concat([Buffer.from([0x03, 0xe8]), noise(random, 100)]) }
    ])
    return { bytes: encodeRawFrame(frame), isLast: 'closes' }
  },
  'many pings': () => ({ bytes: Buffer.concat(Array<Buffer>(500).fill(encodeRawFrame({ opcode: 9 }))) }),
  noise: (random) => ({ bytes: noise(random, 2_000), isLast: 'unfinished' }),
  'half a frame': (random) => {
    const whole = textFrame(request(random))
    return { bytes: whole.subarray(0, 1 + random.below(whole.length - 1)), isLast: 'unfinished' }
  }
}

export const HOSTILE_KINDS = Object.keys(MAKERS)
/** One in so many is giant: they are what takes the time. */
const GIANTS_RARITY = 200

/** One hostile thing, of any kind. */
export function makeHostility(random: RandomNumbers): Hostility {
  const isGiant = random.below(GIANTS_RARITY) === 0
  const kind = isGiant ? 'giant' : random.pick(HOSTILE_KINDS.filter((name) => name !== 'giant'))
  return { kind, ...(MAKERS[kind] as Maker)(random) }
}

/** A request with an open, closed or unknown method, and fields and values that do not belong together. */
function request(random: RandomNumbers): string {
  const method = JSON.stringify(random.pick(METHODS))
  const fields = Array.from({ length: random.below(4) }, () => {
    const value = random.below(3) === 0 ? `"${ID}"` : random.pick(ODD_VALUES)
    return `${JSON.stringify(random.pick(FIELDS))}:${value}`
  })
  const params = random.below(6) === 0 ? random.pick(ODD_VALUES) : `{${fields.join(',')}}`
  if (random.below(2) === 0) return `{"id":${random.below(100)},"method":${method},"params":${params}}`
  return `{"type":${method},"requestId":"r${random.below(100)}","payload":${params}}`
}

function noise(random: RandomNumbers, maxBytes: number): Buffer {
  return Buffer.from(Array.from({ length: 1 + random.below(maxBytes) }, () => random.below(256)))
}
