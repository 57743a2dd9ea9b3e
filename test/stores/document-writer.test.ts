import t from 'tap'
import { InvalidDocumentId, StoreUnavailable } from '../../errors.ts'
import type { JsonValue } from '../../src/json.ts'
import type { DocumentStore } from '../../src/stores/document-store.ts'
import { DocumentWriter } from '../../src/stores/document-writer.ts'
import { eventually } from '../support/processes.ts'

/** A store whose every write ends when the test says so. */
function setUp() {
  const asked: string[] = []
  const ends: ((error?: Error) => void)[] = []
  const write = (what: string) =>
    new Promise<void>((resolve, reject) => {
      asked.push(what)
      ends.push((error) => (error === undefined ? resolve() : reject(error)))
    })
  const documents: DocumentStore = {
    name: 'lmdb',
    get: async () => undefined,
    put: (_collection, id, value: JsonValue) => write(`${id}=${value}`),
    delete: async (_collection, id) => {
      await write(`${id}-`)
      return true
    },
    list: async () => [],
    close: async () => {}
  }
  const failures: string[] = []
  const writer = new DocumentWriter(documents, (error) => failures.push(error.message))
  const put = (id: string, value: JsonValue | undefined) => writer.write('threads', id, value)
  return { writer, put, asked, ends, failures }
}

t.test('one write at a time per document, the newest value next, and whoever waits hears of its own', async (t) => {
  const { writer, put, asked, ends } = setUp()
  const first = put('a', 1)
  const [second, third] = [put('a', 2), put('a', undefined)]
  void put('b', 1)
  t.strictSame(asked, ['a=1', 'b=1'], 'documents do not wait for each other')
  ends[0]?.()
  await first
  t.strictSame(asked, ['a=1', 'b=1', 'a-'], 'what was replaced before its turn is never written')
  ends[2]?.()
  await Promise.all([second, third])
  t.ok(writer.isWriting)
  ends[1]?.()
  await writer.close()
  t.notOk(writer.isWriting)
})

t.test('a store that is away is tried again; a value that came meanwhile goes instead', async (t) => {
  const { writer, put, asked, ends, failures } = setUp()
  const lost = put('a', 1)
  ends[0]?.(new StoreUnavailable('away'))
  await t.rejects(lost, { code: 'CC_STORE_UNAVAILABLE' })
  const newer = put('a', 2)
  await eventually('it is tried again', 5_000, () => asked.length === 2)
  t.strictSame(asked, ['a=1', 'a=2'])
  ends[1]?.()
  await newer
  t.equal(failures.length, 1)
  await writer.close()
})

t.test('what can never be stored is not tried again', async (t) => {
  const { writer, put, asked, ends } = setUp()
  const impossible = put('a', 1)
  ends[0]?.(new InvalidDocumentId())
  await t.rejects(impossible, { code: 'CC_INVALID_DOCUMENT_ID' })
  await writer.close()
  t.strictSame([asked, writer.isWriting], [['a=1'], false])
})

t.test('closing tries once more what waits, and waits for no answer that does not come', async (t) => {
  const { writer, put, asked, ends, failures } = setUp()
  void put('a', 1)
  ends[0]?.(new StoreUnavailable('away'))
  await eventually('the attempt has failed', 5_000, () => failures.length === 1)
  const startMs = performance.now()
  await writer.close()
  t.strictSame(asked, ['a=1', 'a=1'])
  t.ok(performance.now() - startMs < 10_000, 'although nothing answered')
})
