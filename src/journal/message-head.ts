const HEAD = Buffer.from('{"type":"')
const BEFORE_SEQ = Buffer.from('","seq":')
const QUOTE = 0x22
const ZERO = 0x30
const NINE = 0x39

export interface MessageHead {
  type: string
  /** Undefined: the message is not in the journal (a gap, an answer). */
  seq: number | undefined
}

/** Type and number of a message of the gateway, from its first bytes: `{"type":…,"seq":N,…`. */
export function readHead(message: Buffer): MessageHead {
  const typeEnd = message.indexOf(QUOTE, HEAD.length)
  const type = message.toString('latin1', HEAD.length, typeEnd)
  let at = typeEnd + BEFORE_SEQ.length
  if (at > message.length || message.compare(BEFORE_SEQ, 0, BEFORE_SEQ.length, typeEnd, at) !== 0) {
    return { type, seq: undefined }
  }
  let seq = 0
  for (; isDigit(message[at]); at++) seq = seq * 10 + (message[at] as number) - ZERO
  return { type, seq }
}

const EVENT_HEAD = Buffer.from('{"type":"event","seq":')
const BEFORE_PAYLOAD = Buffer.from(',"payload":')

/** The place of an event in bytes, without an object for each: see {@link EventCursor.read}. */
export class EventCursor {
  seq = 0
  /** Where codex's own line begins. */
  payloadStart = 0

  /** Reads the message that begins at `at`. False, and nothing read, when it is no event. */
  read(bytes: Buffer, at: number): boolean {
    for (let index = 0; index < EVENT_HEAD.length; index++) {
      if (bytes[at + index] !== EVENT_HEAD[index]) return false
    }
    let position = at + EVENT_HEAD.length
    let seq = 0
    for (; isDigit(bytes[position]); position++) seq = seq * 10 + (bytes[position] as number) - ZERO
    this.seq = seq
    this.payloadStart = position + BEFORE_PAYLOAD.length
    return true
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE
}
