import { fileURLToPath } from 'node:url'
import type { ApprovalKind, Decision, DecisionDetails } from '../../schemas/approvals.ts'
import { call, type ModelAnswer } from './scripted-responses.ts'

/** Settings for codex-with.ts under which codex can ask every kind of question. */
export const CODEX_SETTINGS = {
  'features.request_permissions_tool': 'true',
  'features.default_mode_request_user_input': 'true',
  'mcp_servers.m.command': JSON.stringify(process.execPath),
  'mcp_servers.m.args': JSON.stringify([fileURLToPath(new URL('mcp-server.mjs', import.meta.url))])
}

/** For thread/start, so that the model can call a tool of the client's. */
export const DYNAMIC_TOOLS = [
  {
    type: 'function',
    name: 'lookup',
    description: 'looks up',
    inputSchema: { type: 'object', properties: { key: { type: 'string' } } }
  }
]

/** One way for codex to ask something: what the model must say, and what is to be seen of it. */
export interface ApprovalCase {
  title: string
  kind: ApprovalKind
  /** `effect`: a path outside the workspace, of a file that must appear when the question is accepted. */
  answers(effect: string): ModelAnswer[]
  hasEffect: boolean
  /** A terminal is accepted first, outside the sandbox. */
  opensTerminal?: boolean
  decisions: readonly Decision[]
  /** What the request shows. */
  request(effect: string): object
  details: DecisionDetails
  /** What the model hears of each decision that leaves its turn running. */
  heard: Partial<Record<Decision, RegExp>>
  /** codex stops the turn when it hears `cancel`. */
  cancelStops?: boolean
  /** Fields of the audit record beside the common ones. */
  record: object
}

const ONCE: readonly Decision[] = ['accept', 'decline', 'cancel']
const ONCE_OR_SESSION: readonly Decision[] = ['accept', 'acceptForSession', 'decline', 'cancel']
const YES_OR_NO: readonly Decision[] = ['accept', 'decline']

export function run(cmd: string, more: object = {}) {
  return call('exec_command', { cmd, ...more })
}

export function escalate(cmd: string, more: object = {}) {
  return run(cmd, { sandbox_permissions: 'require_escalated', justification: 'the test wants it', ...more })
}

export function patch(...lines: string[]) {
  return run(["apply_patch <<'EOF'", '*** Begin Patch', ...lines, '*** End Patch', 'EOF', ''].join('\n'))
}

const commandCase = {
  kind: 'command',
  decisions: ONCE_OR_SESSION,
  details: {},
  heard: { accept: /Process exited with code 0/, decline: /rejected by user/ },
  cancelStops: true
} as const

export const APPROVAL_CASES: readonly ApprovalCase[] = [
  {
    ...commandCase,
    title: 'a command that wants out of the sandbox',
    answers: (effect) => [[escalate(`touch ${effect}`)]],
    hasEffect: true,
    request: (effect) => ({ command: `/bin/bash -lc 'touch ${effect}'`, reason: 'the test wants it' }),
    record: { argv: ['touch', String], command: /touch/ }
  },
  {
    ...commandCase,
    title: 'a command that codex holds for dangerous',
    answers: () => [[run('rm -rf build')]],
    hasEffect: false,
    request: () => ({ command: "/bin/bash -lc 'rm -rf build'" }),
    record: { argv: ['rm', '-rf', 'build'] }
  },
  {
    ...commandCase,
    title: 'a script that a prompt rule catches',
    answers: () => [[run('echo hi > prompted.txt')]],
    hasEffect: false,
    request: () => ({ command: "/bin/bash -lc 'echo hi > prompted.txt'", reason: /requires approval by policy/ }),
    record: { command: /echo hi/ }
  },
  {
    title: 'a new file outside the workspace',
    kind: 'fileChange',
    answers: (effect) => [[patch(`*** Add File: ${effect}`, '+planted')]],
    hasEffect: true,
    decisions: ONCE_OR_SESSION,
    request: (effect) => ({ changes: [{ path: effect, kind: 'add', diff: 'planted\n' }] }),
    details: {},
    heard: { accept: /Success. Updated the following files/, decline: /rejected by user/ },
    cancelStops: true,
    record: { paths: [String], diffSha256: /^[0-9a-f]{64}$/ }
  },
  {
    title: 'more permissions for the turn',
    kind: 'permissions',
    answers: (effect) => [
      [call('request_permissions', { reason: 'to write', permissions: { file_system: { write: [effect] } } })]
    ],
    hasEffect: false,
    decisions: YES_OR_NO,
    request: () => ({ permissions: { fileSystem: { write: [String] } }, reason: 'to write' }),
    details: {},
    heard: { accept: /\\"write\\":\[\\"/, decline: /\\"permissions\\":\{/ },
    record: { subject: /fileSystem/ }
  },
  {
    title: 'a question to the user',
    kind: 'userInput',
    answers: () => [[call('request_user_input', { questions: [question('q', 'Which colour?')] })]],
    hasEffect: false,
    decisions: YES_OR_NO,
    request: () => ({ questions: [{ id: 'q', question: 'Which colour?', isSecret: false }] }),
    details: { answers: { q: { answers: ['violet'] } } },
    heard: { accept: /violet/, decline: /\\"answers\\":\{\}/ },
    record: {}
  },
  {
    title: 'a form of an MCP server',
    kind: 'elicitation',
    answers: () => [[call('ask', { text: 'x' }, 'mcp__m')]],
    hasEffect: false,
    decisions: ONCE,
    request: () => ({ elicitation: { serverName: 'm', message: 'Which colour?' } }),
    details: { content: { colour: 'violet' } },
    heard: {
      accept: /form said .*accept.*violet/,
      decline: /form said .*decline/,
      cancel: /form said .*cancel/
    },
    record: { subject: 'm' }
  },
  {
    title: 'a call of an MCP tool',
    kind: 'mcpToolCall',
    answers: () => [[call('write', { text: 'x' }, 'mcp__m')]],
    hasEffect: false,
    decisions: ONCE_OR_SESSION,
    request: () => ({ elicitation: { serverName: 'm', _meta: { tool_name: 'write', tool_params: { text: 'x' } } } }),
    details: {},
    heard: { accept: /wrote/, decline: /rejected/, cancel: /cancel/ },
    record: { subject: 'm write' }
  },
  {
    title: 'input to a terminal outside the sandbox',
    kind: 'writeStdin',
    answers: (effect) => [
      [escalate('cat; cat', { tty: true, yield_time_ms: 250 })],
      (input) => {
        const sessionId = Number(/session ID (\d+)/.exec(JSON.stringify(input.at(-1)))?.[1])
        return [call('write_stdin', { session_id: sessionId, chars: `${effect}\n`, yield_time_ms: 250 })]
      }
    ],
    hasEffect: false,
    opensTerminal: true,
    decisions: ONCE,
    request: () => ({ command: /^write_stdin --session-id \d+ / }),
    details: {},
    heard: { accept: /Output:\\n.*effect-/, decline: /rejected/ },
    cancelStops: true,
    record: { command: /^write_stdin/ }
  },
  {
    title: 'a call of a tool of the client',
    kind: 'dynamicTool',
    answers: () => [[call('lookup', { key: 'k' })]],
    hasEffect: false,
    decisions: YES_OR_NO,
    request: () => ({ tool: { tool: 'lookup', arguments: { key: 'k' } } }),
    details: { contentItems: [{ type: 'inputText', text: 'looked up' }] },
    heard: { accept: /looked up/, decline: /tool unavailable/ },
    record: { subject: 'lookup' }
  }
]

export function question(id: string, text: string, isSecret = false) {
  const options = ['one', 'two'].map((label) => ({ label, description: label }))
  return { id, header: 'Test', question: text, isSecret, options }
}
