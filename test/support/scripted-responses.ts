import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Teardown } from './gateway.ts'

/** An item of the model's output, as the Responses API spells it. */
export interface ModelItem {
  type: string
  name?: string
  arguments?: string
  namespace?: string
}

interface InputItem {
  type?: string
  role?: string
  content?: { type?: string; text?: string }[]
  output?: unknown
}

/** One answer of the model: its items, or what makes them of all that the model was told so far. */
export type ModelAnswer = ModelItem[] | ((input: readonly InputItem[]) => ModelItem[])

/** A model whose answers a test writes item by item, for what the demo model cannot say. */
export interface ScriptedModel {
  /** For MODEL_BASE_URL. */
  readonly baseUrl: string
  /** The prompt of a turn in which the model gives these answers, one after the other, and then says "done". */
  script(...answers: ModelAnswer[]): string
  /** What the model was last told in the turn of this prompt, from the prompt on, as JSON; '' when it was not asked. */
  heard(prompt: string): string
}

const MARK = /script-(\d+)\./

export async function startScriptedModel(t: Teardown): Promise<ScriptedModel> {
  const scripts: { answers: ModelAnswer[]; heard: string }[] = []
  let lastId = 0

  const answerTo = (input: readonly InputItem[]): ModelItem[] => {
    const start = input.findLastIndex((item) => markOf(item) !== undefined)
    const script = scripts[Number(input[start] && markOf(input[start]))]
    const turn = input.slice(start)
    const next = script?.answers.shift()
    if (script) script.heard = JSON.stringify(turn)
    if (next === undefined) return [say('done')]
    return typeof next === 'function' ? next(turn) : next
  }

  const server = createServer((request, response) => {
    void readBody(request).then((body) => {
      if (request.method !== 'POST' || !request.url?.endsWith('/responses')) {
        response.setHeader('content-type', 'application/json')
        response.end('{"object":"list","data":[],"models":[]}')
        return
      }
      const items = answerTo((JSON.parse(body) as { input: InputItem[] }).input)
      sendAnswer(
        response,
        `resp_${++lastId}`,
        items.map((item, index) =>
          item.type === 'function_call'
            ? { call_id: `call_${lastId}_${index}`, ...item }
            : { id: `msg_${lastId}`, ...item }
        )
      )
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    script(...answers) {
      scripts.push({ answers, heard: '' })
      return `script-${scripts.length - 1}.`
    },
    heard: (prompt) => scripts[Number(MARK.exec(prompt)?.[1])]?.heard ?? ''
  }
}

/** The script that a user's message names. */
function markOf({ role, content }: InputItem): string | undefined {
  if (role !== 'user') return undefined
  return content?.map(({ text }) => MARK.exec(text ?? '')?.[1]).find((mark) => mark !== undefined)
}

/** A call of one of codex's tools (or, with a namespace, of an MCP server's). */
export function call(name: string, args: object, namespace?: string): ModelItem {
  const item = { type: 'function_call', name, arguments: JSON.stringify(args) }
  return namespace === undefined ? item : { ...item, namespace }
}

export function say(text: string): ModelItem & { role: string; content: object[] } {
  return { type: 'message', role: 'assistant', content: [{ type: 'output_text', text }] }
}

function sendAnswer(response: ServerResponse, id: string, items: object[]): void {
  const usage = {
    input_tokens: 10,
    input_tokens_details: null,
    output_tokens: 5,
    output_tokens_details: null,
    total_tokens: 15
  }
  const events = [
    { type: 'response.created', response: { id } },
    ...items.map((item) => ({ type: 'response.output_item.done', item })),
    { type: 'response.completed', response: { id, usage } }
  ]
  response.setHeader('content-type', 'text/event-stream')
  response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''))
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
