// One turn with an approval, against the gateway of this container, with a scripted model on loopback in place of the
// paid one: docs/DEPLOY.md, "Prove it yourself". Runs inside the container (working directory /app):
//   docker compose exec -T gateway gateway-node --input-type=module - < docker/prove.mjs
// The gateway must have been started with MODEL_BASE_URL=http://127.0.0.1:9911/v1. Exits 0 when all of it held.
import { createHmac } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const TIMEOUT_MS = 60_000
/** What a command outside the sandbox can reach of the processes that hold keys: environments and memories. */
const PEEK = `
cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -E '^(JWT_SECRET|OPENAI_API_KEY|REDIS_URL)=.' | cut -d= -f1
for p in /proc/[0-9]*; do case $(cat $p/comm) in tini|gateway-node|codex) test -r $p/mem && cat $p/comm || echo closed;; esac; done`
const COMMAND = `id -u; touch proof.txt; ${PEEK}; true`
const base = `127.0.0.1:${process.env.PORT || 3000}`
const modelUrl = new URL(process.env.MODEL_BASE_URL ?? 'http://127.0.0.1:9911/v1')
const { scriptedAnswer } = await import(pathToFileURL(resolve('dist/src/demo/scripted-model.js')).href)

setTimeout(() => fail(`nothing more happened within ${TIMEOUT_MS} ms`), TIMEOUT_MS).unref()

const model = await startModel()
await showConfinement()
await refuseStrangers()
await oneTurn(`prover-${process.pid}`)
model.closeAllConnections()
model.close()
say('proved')

function say(what, detail = '') {
  console.log(`${what}${detail === '' ? '' : `: ${detail}`}`)
}

function fail(why) {
  console.error(`FAILED: ${why}`)
  process.exit(1)
}

function check(held, what) {
  if (!held) fail(what)
  say('ok', what)
}

async function startModel() {
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    if (request.method !== 'POST') return response.end(JSON.stringify({ object: 'list', data: [], models: [] }))
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (const event of scriptedAnswer(JSON.parse(body))) {
      response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
    }
    response.end()
  })
  await new Promise((listening, broken) => {
    server.once('error', broken).listen(Number(modelUrl.port), '127.0.0.1', listening)
  })
  return server
}

async function showConfinement() {
  const status = await readFile('/proc/1/status', 'utf8')
  const facts = Object.fromEntries(status.split('\n').map((line) => line.split(/:\s+/)))
  say(
    'process 1',
    `uid ${facts.Uid} · CapEff ${facts.CapEff} · NoNewPrivs ${facts.NoNewPrivs} · Seccomp ${facts.Seccomp}`
  )
  check(!facts.Uid.startsWith('0'), 'the gateway is not root')
  check(/^0+$/.test(facts.CapEff), 'it holds no capability')
  check(facts.NoNewPrivs === '1' && facts.Seccomp === '2', 'no new privileges, and a seccomp filter is on')
}

async function refuseStrangers() {
  const { status } = await fetch(`http://${base}/api/threads`)
  check(status === 401, 'a request without a token is refused with 401')
}

function token(sub) {
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub, iat: now, exp: now + 300, iss: process.env.JWT_ISSUER, aud: process.env.JWT_AUDIENCE }
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  return `${signed}.${createHmac('sha256', process.env.JWT_SECRET).update(signed).digest('base64url')}`
}

async function oneTurn(userId) {
  const socket = new WebSocket(`ws://${base}/ws`, ['bearer', token(userId)])
  const inbox = listen(socket)
  const send = (type, requestId, payload) => socket.send(JSON.stringify({ type, requestId, payload }))
  await inbox((message) => message.type === 'session/ready')

  send('thread/start', 'r1', {})
  const { threadId } = (await inbox(({ requestId }) => requestId === 'r1')).payload
  say('thread', threadId)
  const input = [{ type: 'text', text: `escalate: ${COMMAND}`, text_elements: [] }]
  send('turn/start', 'r2', { threadId, input })

  const { payload: approval } = await inbox((message) => message.type === 'approval/request')
  say('approval asked', `${approval.command} (in ${approval.cwd}; rule ${approval.policy?.rule})`)
  send('approval/respond', 'r3', { approvalId: approval.approvalId, decision: 'accept' })
  const { payload: resolved } = await inbox((message) => message.type === 'approval/resolved')
  check(resolved.outcome === 'accepted', `the approval is accepted by ${resolved.by.kind} ${resolved.by.id}`)

  const isCommandEnd = ({ payload }) =>
    payload?.method === 'item/completed' && payload.params.item.type === 'commandExecution'
  const { item } = (await inbox(isCommandEnd)).payload.params
  const lines = item.aggregatedOutput.trim().split('\n')
  say('the command printed', JSON.stringify(lines))
  check(item.exitCode === 0, 'the accepted command ran')
  const closed = lines.filter((line) => line === 'closed').length
  check(closed >= 3, 'tini, the gateway and codex are there, and their memory is closed to the command')
  check(lines.length === closed + 1, 'it reads no key in any environment, and no other memory that holds one')
  await inbox(({ payload }) => payload?.method === 'turn/completed')
  check(
    await hasFile(process.env.WORKSPACE_ROOT ?? `${process.env.DATA_DIR}/workspaces`, 'proof.txt'),
    'its file is there'
  )
  socket.onclose = null
  socket.close()
}

/** `await inbox(predicate)` resolves with the first message, past or future, that fits; an error message ends it all. */
function listen(socket) {
  const messages = []
  const waiting = new Set()
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data)
    if (message.type === 'error') fail(`the gateway says ${JSON.stringify(message.payload)}`)
    messages.push(message)
    for (const look of waiting) look()
  }
  socket.onclose = ({ code, reason }) => fail(`the socket closed with ${code} ${reason}`)
  socket.onerror = ({ message }) => fail(`the socket failed: ${message}`)
  return (fits) =>
    new Promise((found) => {
      const look = () => {
        const message = messages.find(fits)
        if (message === undefined) return
        waiting.delete(look)
        found(message)
      }
      waiting.add(look)
      look()
    })
}

async function hasFile(directory, name) {
  for (const entry of await readdir(directory, { recursive: true })) {
    if (entry.endsWith(`/${name}`)) return (await stat(`${directory}/${entry}`)).isFile()
  }
  return false
}
