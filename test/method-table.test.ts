import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Role } from '../schemas/common.ts'
import type { Method } from '../src/codex/method-row.ts'
import { METHODS, roleAtLeast } from '../src/codex/methods.ts'
import { binaryRequests } from './support/codex-schema.ts'
import { scratchDirectory, startGateway } from './support/gateway.ts'
import { NativeClient } from './support/native-client.ts'
import { recordingCodex } from './support/recording-codex.ts'
import { sampleOf } from './support/sample-params.ts'
import { bearer, TEST_SECRET } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const SECRET = 'a secret of the host'
const NO_SUCH_ID = '00000000-0000-7000-8000-000000000000'

/** What the gateway says to codex itself. */
const OWN = new Set(['initialize', 'initialized', 'account/login/start'])

/** They end what the others need: in this order, after them. */
const LAST = ['thread/unsubscribe', 'thread/revert', 'thread/archive', 'thread/unarchive', 'thread/delete']

interface Told {
  /** The coded error, or undefined for a result. */
  code: string | undefined
  text: string
}

type Ask = (method: string, params: unknown) => Promise<Told>

const DOORS = {
  '/ws': async (t: Test, address: string, headers: { authorization: string }): Promise<Ask> => {
    const client = await TestClient.connect(t, `ws://${address}/ws`, { headers })
    return async (method, params) => {
      const answer = await client.request(method, params)
      return { code: answer.type === 'error' ? answer.payload.code : undefined, text: JSON.stringify(answer) }
    }
  },
  '/': async (t: Test, address: string, headers: { authorization: string }): Promise<Ask> => {
    const client = await NativeClient.connect(t, `ws://${address}`, { headers })
    return async (method, params) => {
      const answer = await client.request(method, params)
      const { error } = answer
      return {
        code: error === undefined ? undefined : (error.data?.code ?? String(error.code)),
        text: JSON.stringify(answer)
      }
    }
  }
}

/** What the table says of a method for one role. */
function verdictOf(row: Method, role: Role): 'denied' | 'answered' | 'forwarded' {
  if (row.action === 'deny' || !roleAtLeast([role], row.standInFrom ?? row.role)) return 'denied'
  return row.action === 'answer' || !roleAtLeast([role], row.role) ? 'answered' : 'forwarded'
}

const requests = binaryRequests(t)

/** Params that fit the binary's own schema. Three old methods are not in it: they take none that matter. */
function paramsOf(method: string, fill: 'required' | 'all', text: (name: string) => string): unknown {
  const schema = requests.oneOf?.find(({ properties }) => properties?.method?.enum?.[0] === method)
  const params = schema?.properties?.params
  return params === undefined ? {} : sampleOf(params, { definitions: requests.definitions ?? {}, fill, text })
}

function inOrder(): Method[] {
  const rows = [...METHODS.values()]
  const rank = ({ method }: Method) => LAST.indexOf(method)
  return rows.sort((a, b) => rank(a) - rank(b))
}

for (const [door, connect] of Object.entries(DOORS)) {
  t.test(`${door}: each method, as each role, is treated as the table says`, { timeout: 180_000 }, async (t) => {
    const outside = await scratchDirectory(t)
    await mkdir(join(outside, 'inner'))
    await writeFile(join(outside, 'secret.txt'), SECRET)
    const codex = await recordingCodex(t)
    const { address } = await startGateway(t, {
      JWT_SECRET: TEST_SECRET,
      CODEX_BIN: codex.binary,
      REQUEST_TIMEOUT_MS: '5000'
    })
    const user = await TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer('alice') })

    for (const role of ['viewer', 'user', 'admin'] as const) {
      await t.test(role, async (t) => {
        const { threadId } = await user.call('thread/start', {})
        const heard = (await codex.lines()).length
        const ask = await connect(t, address, await bearer('alice', { roles: [role] }))
        const plain = (name: string) => (/^threadId$/.test(name) ? threadId : /Ids?$/.test(name) ? NO_SUCH_ID : 'x')
        for (const row of inOrder()) {
          const { code, text } = await ask(row.method, paramsOf(row.method, 'required', plain))
          const verdict = verdictOf(row, role)
          if (verdict === 'denied') t.equal(code, 'CC_METHOD_DENIED', `${row.method} is denied: ${text.slice(0, 200)}`)
          else
            t.notMatch(
              code,
              /CC_(METHOD_DENIED|UNKNOWN_TYPE|INTERNAL)/,
              `${row.method} is ${verdict}: ${text.slice(0, 200)}`
            )
        }
        const lines = (await codex.lines()).slice(heard)
        const told = new Set(lines.map((line) => JSON.parse(line).method as string))
        const rows = [...METHODS.values()].filter(({ method }) => !OWN.has(method))
        const forwarded = rows.filter((row) => verdictOf(row, role) === 'forwarded')
        t.strictSame(
          rows
            .filter(({ method }) => told.has(method))
            .map(({ method }) => method)
            .sort(),
          forwarded.map(({ method }) => method).sort(),
          'codex heard of exactly these'
        )
      })
    }

    await t.test('as admin, with every field and each path outside the workspace', async (t) => {
      const { threadId } = await user.call('thread/start', {})
      const heard = (await codex.lines()).length
      const ask = await connect(t, address, await bearer('alice', { roles: ['admin'] }))
      const hostile = (name: string) => {
        // a label, which codex stores with the thread
        if (name === 'originUrl') return 'label'
        if (/path|file/i.test(name)) return join(outside, 'secret.txt')
        if (/cwd|root|dir|home|folder|location|source|url/i.test(name)) return outside
        return /^threadId$/.test(name) ? threadId : /Ids?$/.test(name) ? NO_SUCH_ID : 'secret'
      }
      for (const { method } of inOrder()) {
        for (const fill of ['required', 'all'] as const) {
          const { text } = await ask(method, paramsOf(method, fill, hostile))
          t.notOk(
            text.includes(SECRET) || text.includes(Buffer.from(SECRET).toString('base64')),
            `${method} tells no secret`
          )
        }
      }
      const lines = (await codex.lines()).slice(heard)
      t.ok(lines.length > 20, 'codex was asked')
      t.strictSame(
        lines.filter((line) => line.includes(outside)),
        [],
        'codex heard of no path outside'
      )
      t.strictSame((await readdir(outside, { recursive: true })).sort(), ['inner', 'secret.txt'])
      t.equal(await readFile(join(outside, 'secret.txt'), 'utf8'), SECRET)
    })
  })
}
