import t from 'tap'
import { readIdOnly, readIncoming } from '../../src/native/incoming.ts'

const request = (id: string, rest = '"params":{}') => `{"id":${id},"method":"m",${rest}}`

t.test('ids come back as they were sent', (t) => {
  for (const id of ['0', '-5', '1', '9007199254740993', '9223372036854775807', '-9223372036854775808']) {
    t.match(readIncoming(request(id)), { kind: 'request', id, method: 'm' }, id)
    t.match(readIncoming(`{"method":"m","params":{"id":7,"a":[{"id":8}]},"id": ${id} }`), { kind: 'request', id })
    t.match(readIncoming(`\n{ "method" : "m" ,\t"id"\n:\r${id}\n, "params" : {"id":"x"} }`), { kind: 'request', id })
    t.match(readIncoming(`{"result":{"id":1},"id":${id}}`), { kind: 'answer', id })
  }
  for (const id of ['""', '" "', '"a\\"},{\\"id\\":9"', '"\\\\"', '"initialize"', '"9"']) {
    t.match(readIncoming(request(id)), { kind: 'request', id }, id)
    t.equal(readIdOnly(request(id)), id)
  }
  t.match(readIncoming(request('"\\u00fc\\u0041"')), { id: '"üA"' }, 'a string is its value, however it was written')
  t.end()
})

t.test('the name of a field may be written with escapes, and the last one of a name counts', (t) => {
  t.match(readIncoming('{"i\\u0064":77,"method":"m","params":{}}'), { kind: 'request', id: '77' })
  t.match(readIncoming('{"id":5,"i\\u0064":78,"method":"m","params":{}}'), { kind: 'request', id: '78' })
  t.end()
})

t.test('an id inside a string or deeper down is none', (t) => {
  const text =
    '{"method":"m","params":{"text":"\\",\\"id\\":666,","id":667,"list":[1,{"id":668}]},"id":9007199254740995}'
  t.match(readIncoming(text), { kind: 'request', id: '9007199254740995' })
  t.equal(readIdOnly(text), '9007199254740995')
  t.equal(readIdOnly('{"method":"m","params":{"id":1}}'), undefined)
  t.equal(readIdOnly(`{"id":12,"method":"m","params":"${'x'.repeat(1000)}`), '12', 'also of a text that is cut off')
  for (const broken of [
    '',
    '{',
    '"',
    '{"id"',
    '{"id":',
    '{"id":"',
    '[1]',
    '{"id":"\\ud800\\"',
    '{"id":1.5}',
    '{"id":[1]}'
  ]) {
    t.equal(readIdOnly(broken), undefined, broken)
  }
  t.end()
})

t.test('what codex takes for no request is none', (t) => {
  for (const id of ['1.5', '1e3', '1.0', '-0', '9223372036854775808', 'null', 'true', '{}', '[1]']) {
    t.match(readIncoming(request(id)), { kind: 'notification', method: 'm' }, id)
  }
  for (const text of [
    '',
    'x',
    '[]',
    '[{"id":1,"method":"m"}]',
    '1',
    'null',
    '{}',
    '{"id":5}',
    '{"id":5,"error":"no"}'
  ]) {
    t.match(readIncoming(text), { kind: 'ignored' }, text)
  }
  t.match(readIncoming('{"method":"initialized"}'), { kind: 'notification', method: 'initialized' })
  t.strictSame(readIncoming('{"id":1,"method":"m"}'), { kind: 'request', id: '1', method: 'm', params: undefined })
  t.strictSame(readIncoming('{"id":1,"error":{"code":1,"message":"x"}}'), {
    kind: 'answer',
    id: '1',
    result: undefined
  })
  t.strictSame(readIncoming('{"id":1,"result":null}'), { kind: 'answer', id: '1', result: null })
  t.end()
})
