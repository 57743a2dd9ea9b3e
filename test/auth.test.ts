import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose'
import t, { type Test } from 'tap'
import { type Gateway, startGateway } from './support/gateway.ts'
import { bearer, TEST_SECRET, tokenFor } from './support/tokens.ts'
import { TestClient } from './support/ws-client.ts'

const inAnHour = () => Math.floor(Date.now() / 1000) + 3600

/** What GET /api/audit (no codex needed) says to this token. */
async function statusOf({ app }: Gateway, token: string): Promise<number> {
  return (await app.inject({ url: '/api/audit', headers: { authorization: `Bearer ${token}` } })).statusCode
}

t.test('with a shared secret', async (t) => {
  const gateway = await startGateway(t, {
    JWT_SECRET: TEST_SECRET,
    JWT_ISSUER: 'https://id.example',
    JWT_AUDIENCE: 'cc'
  })
  const { app, address } = gateway
  const claims = { iss: 'https://id.example', aud: 'cc' }
  const good = await tokenFor('alice', claims)
  const connect = (t: Test, options: object, query = '') => TestClient.connect(t, `ws://${address}/ws${query}`, options)

  await t.test('a token opens /ws as a header, as a subprotocol and by a ticket', async (t) => {
    const byHeader = await connect(t, { headers: { authorization: `Bearer ${good}` } })
    t.equal(byHeader.socket.protocol, '')
    const byProtocol = await connect(t, { protocols: ['bearer', good] })
    t.equal(byProtocol.socket.protocol, 'bearer', 'the token does not come back')
    const { ticket, expiresAt } = (
      await app.inject({ method: 'POST', url: '/api/tickets', headers: { authorization: `Bearer ${good}` } })
    ).json()
    const lifeMs = Date.parse(expiresAt) - Date.now()
    t.ok(lifeMs > 20_000 && lifeMs <= 30_000, `a ticket lives ${lifeMs} ms`)
    const byTicket = await connect(t, {}, `?ticket=${ticket}`)
    for (const client of [byHeader, byProtocol, byTicket]) t.equal(client.ready.payload.userId, 'alice')
    await t.rejects(connect(t, {}, `?ticket=${ticket}`), new Error('HTTP 401'), 'single use')
    await t.rejects(connect(t, {}, '?ticket=guessed'), new Error('HTTP 401'))
  })

  await t.test('a ticket is good for 30 seconds', async (t) => {
    const headers = { authorization: `Bearer ${good}` }
    const { ticket } = (await app.inject({ method: 'POST', url: '/api/tickets', headers })).json()
    const { now } = Date
    t.teardown(() => {
      Date.now = now
    })
    Date.now = () => now() + 31_000
    t.equal((await app.inject(`/api/audit?ticket=${ticket}`)).statusCode, 401)
  })

  await t.test('a ticket does not speak for another user either', async (t) => {
    const headers = { authorization: `Bearer ${good}` }
    const { ticket } = (await app.inject({ method: 'POST', url: '/api/tickets', headers })).json()
    await t.rejects(connect(t, {}, `?ticket=${ticket}&userId=bob`), new Error('HTTP 403'))
  })

  await t.test('what is wrong with a token keeps it out', async (t) => {
    const secret = new TextEncoder().encode(TEST_SECRET)
    const sign = (payload: JWTPayload, alg = 'HS256') => new SignJWT(payload).setProtectedHeader({ alg }).sign(secret)
    const [header, payload, signature] = good.split('.')
    const connected = await connect(t, { protocols: ['bearer', good] })
    const swapped = Buffer.from(JSON.stringify({ sub: 'bob', ...claims, exp: inAnHour() })).toString('base64url')
    for (const [name, token] of [
      ['none', new UnsecuredJWT({ sub: 'alice', ...claims, exp: inAnHour() }).encode()],
      ['another secret', await tokenFor('alice', claims, 'another secret of the same fine length')],
      ['another algorithm of the family', await sign({ sub: 'alice', ...claims, exp: inAnHour() }, 'HS512')],
      ['another payload', `${header}.${swapped}.${signature}`],
      ['no signature', `${header}.${payload}.`],
      ['expired', await tokenFor('alice', { ...claims, exp: inAnHour() - 7200 })],
      ['not yet valid', await tokenFor('alice', { ...claims, nbf: inAnHour() })],
      ['another issuer', await tokenFor('alice', { ...claims, iss: 'https://evil.example' })],
      ['no issuer', await tokenFor('alice', { aud: 'cc' })],
      ['another audience', await tokenFor('alice', { ...claims, aud: 'other' })],
      ['no audience', await tokenFor('alice', { iss: claims.iss })],
      ['no subject', await sign({ ...claims, exp: inAnHour() })],
      ['a subject that is no user id', await tokenFor('../alice', claims)],
      ['an unknown role', await tokenFor('alice', { ...claims, roles: ['root'] })],
      ['no role at all', await tokenFor('alice', { ...claims, roles: [] })],
      ['no token at all', 'nonsense']
    ] as const) {
      const response = await app.inject({ url: '/api/audit', headers: { authorization: `Bearer ${token}` } })
      t.equal(response.statusCode, 401, name)
      t.equal(response.json().error.code, 'CC_UNAUTHORIZED')
      await t.rejects(connect(t, { protocols: ['bearer', token] }), new Error('HTTP 401'), name)
      const refusal = { type: 'error', payload: { code: 'CC_UNAUTHORIZED' } }
      t.match(await connected.request('auth/refresh', { token }), refusal, `${name}, to renew with`)
    }
    t.ok(await connected.call('auth/refresh', { token: good }))
    t.equal(await statusOf(gateway, good), 200)
    t.equal((await app.inject('/api/audit')).statusCode, 401)
    t.equal((await app.inject({ url: '/api/audit', headers: { authorization: `Basic ${good}` } })).statusCode, 401)
    t.equal((await app.inject({ url: '/api/audit', headers: { 'x-user-id': 'alice' } })).statusCode, 401)
    t.equal((await app.inject('/health')).statusCode, 200, 'health needs none')
  })
})

t.test('the end of a token is the end of its socket', async (t) => {
  const { app, address } = await startGateway(t, { JWT_SECRET: TEST_SECRET })
  // Tokens count in whole seconds.
  const inSeconds = (seconds: number) => Math.ceil(Date.now() / 1000) + seconds
  const ending = await tokenFor('alice', { exp: inSeconds(2) })
  const connect = (token: string) => TestClient.connect(t, `ws://${address}/ws`, { protocols: ['bearer', token] })
  const [left, renewed] = await Promise.all([connect(ending), connect(ending)])
  const { ticket } = (
    await app.inject({ method: 'POST', url: '/api/tickets', headers: { authorization: `Bearer ${ending}` } })
  ).json()
  const byTicket = await TestClient.connect(t, `ws://${address}/ws?ticket=${ticket}`)
  const closes = Promise.all([left, byTicket].map(({ socket }) => once(socket, 'close')))

  const refused = await renewed.request('auth/refresh', { token: await tokenFor('bob') })
  t.match(refused, { type: 'error', payload: { code: 'CC_FORBIDDEN' } })
  const forged = await renewed.request('auth/refresh', { token: await tokenFor('alice', {}, `${TEST_SECRET}x`) })
  t.match(forged, { type: 'error', payload: { code: 'CC_UNAUTHORIZED' } })
  t.match(await renewed.call('auth/refresh', { token: await tokenFor('alice', { exp: inSeconds(60) }) }), {
    userId: 'alice'
  })
  for (const [code, reason] of await closes) t.match([code, String(reason)], [4401, /expired/])
  t.match(await renewed.request('ping'), { type: 'pong' }, 'the one that was renewed lives on')

  const short = await tokenFor('alice', { exp: inSeconds(1) })
  t.ok(await renewed.call('auth/refresh', { token: short }), 'a refresh may also shorten')
  const [code] = await once(renewed.socket, 'close')
  t.equal(code, 4401)
})

t.test('roles: a viewer looks, a user acts', async (t) => {
  const { app, address } = await startGateway(t, { JWT_SECRET: TEST_SECRET })
  const alice = await TestClient.connect(t, `ws://${address}/ws`, { headers: await bearer('alice') })
  const { threadId, turnId } = await alice.startTurn('escalate: touch x')
  const { payload } = await alice.waitFor('approval/request')
  const { approvalId } = payload
  const headers = await bearer('alice', { roles: ['viewer'] })
  const viewer = await TestClient.connect(t, `ws://${address}/ws`, { headers })
  t.equal(viewer.ready.payload.pendingApprovals[0].approvalId, approvalId, 'sees what waits')
  t.equal((await viewer.call('thread/read', { threadId })).thread.id, threadId)
  t.ok((await viewer.call('thread/list', {})).data)

  const input = [{ type: 'text', text: 'hello' }]
  for (const [type, params, code] of [
    ['thread/start', {}, 'CC_METHOD_DENIED'],
    ['thread/resume', { threadId }, 'CC_METHOD_DENIED'],
    ['thread/archive', { threadId }, 'CC_METHOD_DENIED'],
    ['turn/start', { threadId, input }, 'CC_METHOD_DENIED'],
    ['turn/interrupt', { threadId, turnId }, 'CC_METHOD_DENIED'],
    ['approval/respond', { approvalId, decision: 'accept' }, 'CC_FORBIDDEN'],
    ['approval/extend', { approvalId, ms: 60_000 }, 'CC_FORBIDDEN']
  ] as const) {
    t.match(await viewer.request(type, params), { type: 'error', payload: { code } }, type)
  }
  for (const [url, body] of [
    ['/api/threads', {}],
    [`/api/threads/${threadId}/turns`, { input }],
    [`/api/threads/${threadId}/turns/${turnId}/interrupt`, {}],
    [`/api/approvals/${approvalId}/respond`, { decision: 'accept' }]
  ] as const) {
    t.equal((await app.inject({ method: 'POST', url, headers, payload: body })).statusCode, 403, url)
  }
  t.equal((await app.inject({ url: `/api/threads/${threadId}`, headers })).statusCode, 200)
  const noRoles = await bearer('alice', { roles: [] })
  t.not((await app.inject({ method: 'POST', url: '/api/threads', headers: noRoles, payload: {} })).statusCode, 201)

  const promoted = await viewer.call('auth/refresh', { token: await tokenFor('alice', { roles: ['user'] }) })
  t.equal(promoted.userId, 'alice')
  t.ok(await viewer.call('approval/respond', { approvalId, decision: 'decline' }), 'a fresh token brings fresh roles')
  await viewer.waitForTurnEnd(turnId)
})

t.test('with the keys of a JWKS address', async (t) => {
  const algorithms = ['RS256', 'ES256', 'EdDSA'] as const
  const keys = new Map<string, { publicKey: CryptoKey; privateKey: CryptoKey }>()
  for (const alg of algorithms) keys.set(alg, await generateKeyPair(alg, { extractable: true }))
  const served = await Promise.all(
    [...keys].map(async ([alg, { publicKey }]) => ({ ...(await exportJWK(publicKey)), kid: alg, alg, use: 'sig' }))
  )
  let fetches = 0
  const server = createServer((_request, response) => {
    fetches++
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: served }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const jwksUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`
  const gateway = await startGateway(t, { JWT_JWKS_URL: jwksUrl })
  const sign = (alg: string, kid: string, key: CryptoKey | Uint8Array, sub = 'alice') =>
    new SignJWT({ sub, exp: inAnHour() }).setProtectedHeader({ alg, kid }).sign(key)
  const keyOf = (alg: string) => keys.get(alg)?.privateKey as CryptoKey

  for (const alg of algorithms) {
    await t.test(`${alg} is good`, async (t) => {
      const token = await sign(alg, alg, keyOf(alg))
      t.equal(await statusOf(gateway, token), 200)
      const client = await TestClient.connect(t, `ws://${gateway.address}/ws`, { protocols: ['bearer', token] })
      t.equal(client.ready.payload.userId, 'alice')
    })
  }
  t.equal(fetches, 1, 'the keys are fetched once')

  await t.test('every confusion is refused', async (t) => {
    const stranger = await generateKeyPair('RS256')
    const rsaKey = keys.get('RS256')?.publicKey as CryptoKey
    const pem = await exportSPKI(rsaKey)
    const modulus = Buffer.from((await exportJWK(rsaKey)).n ?? '', 'base64url')
    const good = await sign('RS256', 'RS256', keyOf('RS256'))
    const client = await TestClient.connect(t, `ws://${gateway.address}/ws`, { protocols: ['bearer', good] })
    for (const [name, token] of [
      ['HS256 with the public key as the secret', await sign('HS256', 'RS256', new TextEncoder().encode(pem))],
      ['the same without its last line end', await sign('HS256', 'RS256', new TextEncoder().encode(pem.trim()))],
      ['HS256 with the modulus', await sign('HS256', 'RS256', modulus)],
      ['HS256 with a guess', await sign('HS256', 'RS256', new TextEncoder().encode(TEST_SECRET))],
      ['none', new UnsecuredJWT({ sub: 'alice', exp: inAnHour() }).encode()],
      ['another key under a known name', await sign('RS256', 'RS256', stranger.privateKey)],
      ['an unknown name', await sign('RS256', 'unknown', keyOf('RS256'))],
      ['one key under the name of another', await sign('ES256', 'EdDSA', keyOf('ES256'))],
      [
        'an algorithm that is not on the list',
        await sign('PS256', 'RS256', (await generateKeyPair('PS256')).privateKey)
      ]
    ] as const) {
      t.equal(await statusOf(gateway, token), 401, name)
      const refusal = { type: 'error', payload: { code: 'CC_UNAUTHORIZED' } }
      t.match(await client.request('auth/refresh', { token }), refusal, `${name}, to renew with`)
    }
    t.equal(await statusOf(gateway, good), 200)
    for (const alg of algorithms) {
      t.ok(await client.call('auth/refresh', { token: await sign(alg, alg, keyOf(alg)) }), `${alg} renews`)
    }
  })

  await t.test('a key that the address names later is found', async (t) => {
    // jose asks again for an unknown name, but not sooner than 30 s after the last time.
    const { now } = Date
    t.teardown(() => {
      Date.now = now
    })
    Date.now = () => now() + 31_000
    const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
    served.push({ ...(await exportJWK(publicKey)), kid: 'next', alg: 'ES256' as never, use: 'sig' })
    t.equal(await statusOf(gateway, await sign('ES256', 'next', privateKey)), 200)
  })
})
