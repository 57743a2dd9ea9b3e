import { once } from 'node:events'
import { open, readdir, readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { type FaultyModel, startFaultyModel } from './support/faulty-model.ts'
import { startGateway } from './support/gateway.ts'
import { startGatewayProcess } from './support/gateway-process.ts'
import { codexProcessesOf, processesOf, signalCodex, untilGone } from './support/processes.ts'
import { TestClient } from './support/ws-client.ts'

const MEMORY_PART_BYTES = 4 * 1024 * 1024
const KEY = 'sk-the-real-key-0c5e9f7d21b84a36'

t.test('faults of the model endpoint reach codex as they are, and no turn hangs', async (t) => {
  const model = await startFaultyModel(t)
  const variables = { MODEL_BASE_URL: model.baseUrl, OPENAI_API_KEY: KEY, MODEL_TIMEOUT_MS: '300' }
  const { address } = await startGateway(t, variables)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)

  const turn = async (prompt: string) => {
    const { threadId, turnId } = await client.startTurn(prompt)
    const { payload } = await client.waitForTurnEnd(turnId)
    const retries = client.received.flatMap(({ type, payload: { method, params } }) =>
      type === 'event' && method === 'error' && params.turnId === turnId && params.willRetry ? [params.error] : []
    )
    const requests = model.requests.filter(({ headers }) => headers['thread-id'] === threadId)
    return { ...payload.params.turn, retries, requests }
  }

  // Together: codex waits between its tries.
  const [busy, broken, silent, stalls, cut, refused, badKey] = await Promise.all(
    ['busy once', 'broken once', 'silent once', 'stalls once', 'cut once', 'refused', 'badKey'].map((fault) =>
      turn(`fault: ${fault}`)
    )
  )
  t.match(busy, {
    status: 'completed',
    retries: [{ codexErrorInfo: { responseStreamDisconnected: { httpStatusCode: 429 } } }]
  })
  const [first, second] = (busy?.requests ?? []) as FaultyModel['requests']
  const waitedMs = (second?.atMs ?? 0) - (first?.atMs ?? 0)
  t.ok(waitedMs >= 1_900, `codex waited ${waitedMs} ms, as Retry-After says`)
  t.match(broken, { status: 'completed', retries: [{ codexErrorInfo: {} }], requests: { length: 2 } })
  t.match(silent, { status: 'completed', retries: [{ additionalDetails: /504.*was silent for 300 ms/ }] })
  t.match(stalls, { status: 'completed', retries: [{ additionalDetails: /stream disconnected/ }] })
  t.match(cut, { status: 'completed', retries: [{ additionalDetails: /stream disconnected/ }] })
  t.match(refused, { status: 'failed', error: { message: 'This is not for you, [key], nor for anybody' } })
  t.match(badKey, { status: 'failed', error: { message: /401.*The model endpoint refuses the key/ } })
  t.notMatch(JSON.stringify(client.received), KEY)

  for (const { method, url, headers } of model.requests) {
    t.strictSame([method, url, headers.authorization], ['POST', '/v1/responses', `Bearer ${KEY}`])
    t.notOk(headers['x-codex-turn-metadata'], 'paths of the host stay here')
  }
})

t.test('an endpoint that is away fails the turn; without a key nothing is sent for one', async (t) => {
  const model = await startFaultyModel(t)
  const { address } = await startGateway(t, { MODEL_BASE_URL: model.baseUrl })
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { turnId, threadId } = await client.startTurn('hello')
  t.match(await client.waitForTurnEnd(turnId), { payload: { params: { turn: { status: 'completed' } } } })
  t.equal(model.requests.length, 1)
  t.notOk(model.requests[0]?.headers.authorization)
  await client.call('thread/compact/start', { threadId })
  await client.waitForEvent('turn/completed', ({ turn }) => turn.id !== turnId)
  t.strictSame(
    new Set(model.requests.map(({ url }) => url)),
    new Set(['/v1/responses']),
    'compaction needs no other path'
  )

  const nowhere = await startGateway(t, { MODEL_BASE_URL: 'http://127.0.0.1:1/v1' })
  const other = await TestClient.connect(t, `ws://${nowhere.address}/ws?userId=alice`)
  const failing = await other.startTurn('hello')
  const { payload } = await other.waitForTurnEnd(failing.turnId)
  t.match(payload.params.turn, { status: 'failed', error: { message: /502.*cannot be asked: ECONNREFUSED/ } })
})

t.test('the endpoint for codex: its token, its path, its size, and an end with its process', async (t) => {
  const model = await startFaultyModel(t)
  const { app, address, dataDir } = await startGateway(t, { MODEL_BASE_URL: model.baseUrl, OPENAI_API_KEY: KEY })
  const { token, revoke } = app.broker.grant('alice')
  const good = { authorization: `Bearer ${token}`, 'content-length': '2' }
  const ask = async (method: string, path: string, headers: Record<string, string>, body = '{}') => {
    const request = httpRequest(`${app.broker.baseUrl}${path}`, { method, headers })
    request.on('error', () => {})
    request.end(body)
    const [response] = await once(request, 'response')
    return { statusCode: response.statusCode, body: await text(response), headers: response.headers }
  }

  const { authorization, ...length } = good
  for (const headers of [
    length,
    { ...length, authorization: 'Bearer nonsense' },
    { ...length, authorization: token }
  ]) {
    t.match(await ask('POST', '/responses', headers), { statusCode: 401, body: /CC_MODEL_TOKEN_INVALID/ })
  }
  for (const [method = '', path = ''] of [
    ['GET', '/responses'],
    ['GET', '/responses/resp_1'],
    ['POST', '/responses?x=1'],
    ['POST', '/files'],
    ['GET', '/models'],
    ['POST', '//responses']
  ]) {
    t.match(await ask(method, path, good), { statusCode: 404, body: /CC_MODEL_PATH_DENIED/ }, `${method} ${path}`)
  }
  const huge = { ...good, 'content-length': String(64 * 1024 * 1024 + 1) }
  t.match(await ask('POST', '/responses', huge), { statusCode: 413, body: /CC_TOO_LARGE/ })
  const chunked = { authorization, 'transfer-encoding': 'chunked' }
  t.match(await ask('POST', '/responses', chunked), { statusCode: 413 }, 'a body of unknown length')
  t.equal(model.requests.length, 0, 'nothing of that went further')

  t.match(await ask('POST', '/responses', good), { statusCode: 200, body: /response\.completed/ })
  const busy = JSON.stringify('fault: busy')
  const limited = await ask('POST', '/responses', { ...good, 'content-length': String(busy.length) }, busy)
  t.match(limited, { statusCode: 429, headers: { 'retry-after': '2' } })
  t.notOk(limited.headers['set-cookie'])

  const stalling = JSON.stringify('fault: stalls')
  const open = httpRequest(`${app.broker.baseUrl}/responses`, {
    method: 'POST',
    headers: { ...good, 'content-length': String(stalling.length) }
  })
  open.end(stalling)
  const [response] = await once(open, 'response')
  const cut = once(response, 'error')
  response.resume()
  revoke()
  t.match(await cut, [{ code: 'ECONNRESET' }], 'what runs under a revoked token ends')
  t.match(await ask('POST', '/responses', good), { statusCode: 401 })

  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { turnId } = await client.startTurn('hello')
  await client.waitForTurnEnd(turnId)
  const [owned] = await codexProcessesOf(dataDir)
  const memory = await readMemory(owned?.pid ?? 0)
  const [found] = memory.flatMap((part) => /ccp_[\w-]{43}/.exec(part.toString('latin1')) ?? [])
  const its = { ...good, authorization: `Bearer ${found}` }
  t.match(await ask('POST', '/responses', its), { statusCode: 200 }, 'the token of a process that runs')
  await signalCodex(dataDir, 'SIGKILL')
  await untilGone(dataDir, 5_000)
  await client.waitFor('session/state', ({ state }) => state === 'crashed')
  t.match(await ask('POST', '/responses', its), { statusCode: 401 }, 'dies with it')
})

t.test('the key is nowhere within reach of a user: home, workspace, processes, events, logs, record', async (t) => {
  const model = await startFaultyModel(t)
  const variables = { MODEL_BASE_URL: model.baseUrl, OPENAI_API_KEY: KEY, LOG_LEVEL: 'trace' }
  const { address, dataDir, output } = await startGatewayProcess(t, variables)
  const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
  const { threadId, turnId } = await client.startTurn('escalate: env | tee env.txt; sleep 600 &')
  const { payload } = await client.waitFor('approval/request')
  await client.call('approval/respond', { approvalId: payload.approvalId, decision: 'accept' })
  await client.waitForTurnEnd(turnId)
  for (const prompt of ['run: cat env.txt', 'fault: badKey once', 'fault: refused']) {
    const next = await client.startTurn(prompt, threadId)
    await client.waitForTurnEnd(next.turnId)
  }
  t.ok(
    model.requests.every(({ headers }) => headers.authorization === `Bearer ${KEY}`),
    'the key was used'
  )

  const forms = [Buffer.from(KEY), ...base64Forms(KEY)]
  const holdsKey = (bytes: Buffer) => forms.some((form) => bytes.includes(form))
  t.ok(holdsKey(Buffer.from(`x ${Buffer.from(`a${KEY}`).toString('base64')}`)), 'the search finds what is there')

  const files = (await readdir(dataDir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
  const paths = files.map(({ parentPath, name }) => join(parentPath, name))
  t.ok(paths.some((path) => path.endsWith('/env.txt')) && paths.some((path) => path.includes('/audit/')))
  t.strictSame(await filter(paths, async (path) => holdsKey(await readFile(path))), [])
  const processes = await processesOf(dataDir)
  t.ok(processes.length >= 1)
  for (const { pid, command } of processes) {
    t.notOk(holdsKey(await readFile(`/proc/${pid}/environ`)), `environment of ${command}`)
    t.notOk(holdsKey(await readFile(`/proc/${pid}/cmdline`)), `arguments of ${command}`)
  }
  const [codex] = await codexProcessesOf(dataDir)
  const memory = await readMemory(codex?.pid ?? 0)
  t.ok(
    memory.some((part) => part.includes('ccp_')),
    'the search finds the token in codex'
  )
  t.notOk(memory.some(holdsKey), 'memory of codex')
  t.notOk(holdsKey(Buffer.from(JSON.stringify(client.received))), 'events')
  t.match(output(), /no answer of the model|refuses the key/)
  t.notOk(holdsKey(Buffer.from(output())), 'logs')
})

/** What base64 makes of the text at each of the three places where it can begin, save the characters at the edges. */
function base64Forms(secret: string): Buffer[] {
  return [0, 1, 2].map((offset) => {
    const encoded = Buffer.from('x'.repeat(offset) + secret).toString('base64')
    return Buffer.from(encoded.slice(offset === 0 ? 0 : 4, -4))
  })
}

/** A process's writable memory, in parts. */
async function readMemory(pid: number): Promise<Buffer[]> {
  const parts: Buffer[] = []
  const maps = (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n')
  const memory = await open(`/proc/${pid}/mem`)
  for (const line of maps) {
    const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
    const [start, end] = [Number.parseInt(from, 16), Number.parseInt(to, 16)]
    for (let at = start; at < end; at += MEMORY_PART_BYTES) {
      const length = Math.min(MEMORY_PART_BYTES, end - at)
      // What the kernel keeps for itself cannot be read.
      const read = await memory.read(Buffer.alloc(length), 0, length, at).catch(() => undefined)
      if (read) parts.push(read.buffer)
    }
  }
  await memory.close()
  return parts
}

async function filter<T>(values: readonly T[], holds: (value: T) => Promise<boolean>): Promise<T[]> {
  const found: T[] = []
  for (const value of values) if (await holds(value)) found.push(value)
  return found
}
