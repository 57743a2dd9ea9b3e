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

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE
}
