import t, { type Test } from 'tap'
import { METHODS } from '../src/codex/methods.ts'
import type { UserDirectories } from '../src/isolation/user-directories.ts'
import { CODEX_SETTINGS } from './support/approval-cases.ts'
import { startCodexListener } from './support/codex-listener.ts'
import { codexWith } from './support/codex-with.ts'
import { ASKED_METHODS, Exchange } from './support/exchange.ts'
import { scratchDirectory, startGateway } from './support/gateway.ts'
import { NativeClient, type NativeMessage } from './support/native-client.ts'
import { type ScriptedModel, startScriptedModel } from './support/scripted-responses.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { Normaliser, type Recording } from './support/transcript.ts'

const MODEL = 'gpt-5.5'
/** Here the gateway refuses before codex does, with codex's number for it and words of its own. */
const OWN_WORDS: readonly string[] = ['thread/list, a wrong type', 'turn/start, no such thread']
const SETTINGS = { ...CODEX_SETTINGS, 'features.exec_permission_approvals': 'true' }

/** Of these codex answers so many; all others have no id that it could read. */
const ANSWERED = 16

/** One way to a codex of its own, and a model of its own. */
interface Side {
  model: ScriptedModel
  /** The model's address as codex has it. */
  modelUrl: string
  directories: UserDirectories
  open(): Promise<NativeClient>
}

async function startDirect(t: Test): Promise<Side> {
  const model = await startScriptedModel(t)
  const { address, directories } = await startCodexListener(t, model.baseUrl, MODEL, await codexWith(t, SETTINGS))
  return { model, modelUrl: model.baseUrl, directories, open: () => NativeClient.open(t, `ws://${address}/`) }
}

async function startOurs(t: Test): Promise<Side> {
  const model = await startScriptedModel(t)
  const CODEX_BIN = await codexWith(t, SETTINGS)
  const variables = { JWT_SECRET: TEST_SECRET, HOST: '127.0.0.1', MODEL_BASE_URL: model.baseUrl, MODEL, CODEX_BIN }
  const { app, address } = await startGateway(t, variables)
  const headers = await bearer('alice', { roles: ['admin'] })
  const directories = await app.pool.prepareDirectories('alice')
  const { baseUrl: modelUrl } = app.broker
  return { model, modelUrl, directories, open: () => NativeClient.open(t, `ws://${address}/`, { headers }) }
}

async function record(t: Test, { model, modelUrl, directories, open }: Side): Promise<Recording> {
  const [client, outside] = [await open(), await scratchDirectory(t)]
  const exchange = new Exchange({ client, model, outside })
  await exchange.run()
  return { calls: exchange.calls, received: client.received, places: { ...directories, outside, model: modelUrl } }
}

const LIST = '"method":"thread/loaded/list","params":{}'
/** What a client may send that is not as usual; nothing of it changes anything. */
const ODD_MESSAGES = [
  `{"id":"a string",${LIST}}`,
  `{"id":"",${LIST}}`,
  `{"id":"\\u00e9\\ud83d\\ude00 \\"quoted\\" \\\\",${LIST}}`,
  `{"id":9007199254740993,${LIST}}`,
  `{"id":9223372036854775807,${LIST}}`,
  `{"id":9223372036854775808,${LIST}}`,
  `{"id":-5,${LIST}}`,
  `{"id":007,${LIST}}`,
  `{"id":1.5,${LIST}}`,
  `{"id":1.0,${LIST}}`,
  `{"id":1e3,${LIST}}`,
  `{"id":null,${LIST}}`,
  `{"id":true,${LIST}}`,
  `{"id":{},${LIST}}`,
  `{${LIST}}`,
  `{"jsonrpc":"2.0","id":21,${LIST}}`,
  `{${LIST},"id":22}`,
  `\n {"id" : 23 , ${LIST} } \r\n`,
  `{"id":24,${LIST},"extra":{"id":25}}`,
  `{"id":26,${LIST}}`,
  `{"id":26,${LIST}}`,
  '{"id":31,"method":"thread/loaded/list"}',
  '{"id":32,"method":"thread/loaded/list","params":null}',
  '{"id":34,"method":"thread/loaded/list","params":{"unknown":1}}',
  '{"id":35,"method":"configRequirements/read"}',
  '{"id":36,"method":7,"params":{}}',
  '{"id":37}',
  '{"id":38,"result":{}}',
  '{"id":39,"error":{"code":1,"message":"x"}}',
  '{"method":"no/such/notification"}',
  '{"method":"initialized","params":{}}',
  'no JSON',
  '{"id":41,',
  '',
  '[]',
  `[{"id":42,${LIST}}]`,
  '7',
  `{"id":51,${LIST}}{"id":52,${LIST}}`
]

t.test('ids of every kind, and messages that are none: the same replies, byte by byte', async (t) => {
  const hear = async ({ open }: Side) => {
    const client = await open()
    for (const message of ODD_MESSAGES) client.send(message)
    const repliesFrom = (start: number) => client.texts.slice(start).filter((text) => !text.startsWith('{"method":'))
    await client.waitFor(() => repliesFrom(0).length >= ANSWERED, 'the replies before the handshake')
    const early = repliesFrom(0)
    await client.initialize()
    const start = client.texts.length
    // All at once: nobody has to wait for a reply before the next request, and they may come in any order.
    for (const message of ODD_MESSAGES) client.send(message)
    client.socket.send(Buffer.from(`{"id":61,${LIST}}`))
    await client.waitFor(() => repliesFrom(start).length >= ANSWERED, 'the replies after the handshake')
    // One more than there should be would come before this.
    await client.request('thread/loaded/list')
    return { early: early.sort(), late: repliesFrom(start).sort() }
  }
  const [direct, ours] = [await hear(await startDirect(t)), await hear(await startOurs(t))]
  t.strictSame(ours.early, direct.early, 'before the handshake')
  t.strictSame(ours.late, direct.late, 'after it')
})

t.test(
  'one exchange with codex itself and with the gateway: every open method, every kind of question',
  { timeout: 300_000 },
  async (t) => {
    const [direct, ours] = [await record(t, await startDirect(t)), await record(t, await startOurs(t))]
    const normaliser = new Normaliser()
    const [expected, found] = [normaliser.transcribe(direct), normaliser.transcribe(ours)]

    await t.test('it covers every method that the table opens, and every question', async (t) => {
      const called = new Set(direct.calls.map(({ method }) => method))
      const open = [...METHODS.values()].filter(({ action }) => action !== 'deny').map(({ method }) => method)
      t.strictSame(
        open.filter((method) => !called.has(method)),
        [],
        'open methods that nobody called'
      )
      const asked = new Set(direct.received.flatMap(({ id, method }) => (id === undefined ? [] : (method ?? []))))
      t.strictSame([...asked].sort(), [...ASKED_METHODS].sort())
    })

    await t.test('the same replies', async (t) => {
      t.strictSame(
        found.replies.map(([title]) => title),
        expected.replies.map(([title]) => title)
      )
      for (const [n, [title, reply]] of expected.replies.entries()) {
        const own = found.replies[n]?.[1]
        if (OWN_WORDS.includes(title)) t.strictSame(codeOf(own), codeOf(reply), `${title}: the code`)
        else t.strictSame(own, reply, title)
      }
    })

    await t.test('the same notifications and questions, in the same order', async (t) => {
      t.strictSame([...found.streams.keys()].sort(), [...expected.streams.keys()].sort())
      for (const [stream, messages] of expected.streams) t.strictSame(found.streams.get(stream), messages, stream)
    })

    t.comment('normalised, because it is another run, machine or directory:')
    for (const line of normaliser.report) t.comment(`  ${line}`)
    t.comment(`of these only the code is compared, since the gateway refuses first: ${OWN_WORDS.join('; ')}`)
    const denied = [...METHODS.values()].flatMap((row) =>
      row.action === 'deny' ? [`${row.method} (${row.reason})`] : []
    )
    t.comment(`not compared, because the method table forbids it: ${denied.length} methods`)
    for (const line of denied) t.comment(`  ${line}`)
  }
)

function codeOf(reply: unknown): number | undefined {
  return (reply as NativeMessage).error?.code
}
