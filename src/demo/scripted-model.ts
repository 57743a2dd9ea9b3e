import type { JsonObject } from '../json.ts'

/** One server-sent event of the Responses API. */
export interface ModelEvent extends JsonObject {
  type: string
}

/** An event to send, or a moment to wait first, so that a person sees words arrive. */
export type ModelStep = ModelEvent | 'pause'

/** What of a Responses-API request the script reads. */
export interface ModelRequest {
  input?: { type?: string; role?: string; content?: { type?: string; text?: string }[]; output?: unknown }[]
}

const TOOL_OUTPUT_SHOWN_CHARS = 400
const MAX_FLOOD = 1_000_000
const GREETING =
  'This is the demo model of Cloud Codex: a script, no AI. It streams this text, and it understands four commands. ' +
  'Try "run: ls -la", "escalate: touch hello.txt", "patch: <an apply_patch text>" or "flood: 1000". You said: '

let responses = 0

/**
 * A scripted model: the last user message says what it does. `run: CMD` runs a command in the sandbox, `escalate: CMD`
 * asks to run it outside, `patch: PATCH` applies a patch, `flood: N` streams N deltas, everything else is answered in
 * words. Yields the steps of one Responses-API stream.
 */
export function* scriptedAnswer(request: ModelRequest): Generator<ModelStep> {
  const n = ++responses
  const id = `resp_demo_${n}`
  yield { type: 'response.created', response: { id } }
  yield* script(request, n)
  const usage = {
    input_tokens: 10,
    input_tokens_details: null,
    output_tokens: 5,
    output_tokens_details: null,
    total_tokens: 15
  }
  yield { type: 'response.completed', response: { id, usage } }
}

function* script(request: ModelRequest, n: number): Generator<ModelStep> {
  const output = lastToolOutput(request)
  if (output !== undefined) {
    yield* speak(n, [`Done. The tool said: ${output.slice(0, TOOL_OUTPUT_SHOWN_CHARS)}`])
    return
  }
  const prompt = lastPrompt(request)
  const [, verb = '', rest = ''] = /^\s*(run|escalate|patch|flood):\s*([\s\S]*)$/.exec(prompt) ?? []
  switch (verb) {
    case 'run':
      yield callTool(n, { cmd: rest })
      break
    case 'escalate':
      yield callTool(n, { cmd: rest, sandbox_permissions: 'require_escalated', justification: 'the demo asked for it' })
      break
    case 'patch':
      yield callTool(n, { cmd: `apply_patch <<'EOF'\n${rest.trim()}\nEOF\n` })
      break
    case 'flood':
      yield* speak(n, floodWords(Math.min(Number.parseInt(rest, 10) || 0, MAX_FLOOD)))
      break
    default:
      yield* speak(n, `${GREETING}${prompt}`.split(/(?<= )/), true)
  }
}

function* floodWords(count: number): Generator<string> {
  for (let i = 0; i < count; i++) yield `tok${i} `
}

function* speak(n: number, words: Iterable<string>, isPaced = false): Generator<ModelStep> {
  const id = `msg_demo_${n}`
  yield { type: 'response.output_item.added', item: { type: 'message', role: 'assistant', id, content: [] } }
  let text = ''
  for (const delta of words) {
    text += delta
    if (isPaced) yield 'pause'
    yield { type: 'response.output_text.delta', delta, item_id: id }
  }
  const content = [{ type: 'output_text', text }]
  yield { type: 'response.output_item.done', item: { type: 'message', role: 'assistant', id, content } }
}

function callTool(n: number, args: JsonObject): ModelEvent {
  return {
    type: 'response.output_item.done',
    item: { type: 'function_call', call_id: `call_demo_${n}`, name: 'exec_command', arguments: JSON.stringify(args) }
  }
}

function lastToolOutput({ input = [] }: ModelRequest): string | undefined {
  const last = input.at(-1)
  if (!last?.type?.endsWith('_output')) return undefined
  return typeof last.output === 'string' ? last.output : JSON.stringify(last.output)
}

function lastPrompt({ input = [] }: ModelRequest): string {
  const texts = input
    .filter(({ role }) => role === 'user')
    .flatMap(({ content }) => content ?? [])
    .filter(({ type }) => type === 'input_text')
  return texts.at(-1)?.text ?? ''
}
