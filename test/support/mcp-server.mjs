// An MCP server on stdio with two tools. `ask` puts a form before the user (elicitation) and returns the answer;
// it says of itself that it only reads, so that calling it is not asked. `write` says nothing, so that it is.
import { createInterface } from 'node:readline'

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
const inputSchema = { type: 'object', properties: { text: { type: 'string' } } }
const TOOLS = [
  { name: 'ask', description: 'asks', inputSchema, annotations: { readOnlyHint: true } },
  { name: 'write', description: 'writes', inputSchema }
]
const FORM = {
  message: 'Which colour?',
  requestedSchema: { type: 'object', properties: { colour: { type: 'string' } }, required: ['colour'] }
}
let lastId = 0
const waiting = new Map()

function answer(id, text) {
  send({ id, result: { content: [{ type: 'text', text }] } })
}

function onRequest({ id, method, params }) {
  if (method === 'initialize') {
    const { protocolVersion } = params
    const serverInfo = { name: 'm', version: '0' }
    send({ id, result: { protocolVersion, capabilities: { tools: {} }, serverInfo } })
  } else if (method === 'tools/list') send({ id, result: { tools: TOOLS } })
  else if (method === 'tools/call' && params.name === 'ask') {
    const formId = `form-${++lastId}`
    waiting.set(formId, (reply) => answer(id, `form said ${JSON.stringify(reply)}`))
    send({ id: formId, method: 'elicitation/create', params: FORM })
  } else if (method === 'tools/call') answer(id, `wrote ${JSON.stringify(params.arguments)}`)
  else send({ id, result: {} })
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line)
  if (message.method === undefined) waiting.get(message.id)?.(message.result ?? message.error)
  else if (message.id !== undefined) onRequest(message)
})
