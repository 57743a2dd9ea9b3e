import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import t from 'tap'
import type { Approval } from '../../schemas/approvals.ts'
import type { AuditRecord } from '../../schemas/audit.ts'
import type { PolicyEvaluateResult } from '../../schemas/policy.ts'
import { startGateway } from '../support/gateway.ts'
import { TestClient } from '../support/ws-client.ts'

/** The verdict of a case is given for a workspace at this path. */
const WORKSPACE = '/workspace/project'
const ACCEPTED_CASES = 14
const ASKED_CASES = 36

interface Case {
  command: string
  expect: 'auto' | 'ask'
  category: string
}

const cases = readFileSync(new URL('approval-cases.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Case)

t.test(
  `${ACCEPTED_CASES + ASKED_CASES} cases driven through codex by escalation get the verdict that decide() gives`,
  async (t) => {
    const { app, address } = await startGateway(t)
    const evaluate = async (command: string): Promise<PolicyEvaluateResult> => {
      const payload = { kind: 'command', command }
      const headers = { 'x-user-id': 'alice' }
      return (await app.inject({ method: 'POST', url: '/api/policy/evaluate', headers, payload })).json()
    }
    const { workspace } = await evaluate('ls')
    // The workspace of this test lies in the repository of this project; what git finds must be a repository of its own.
    await promisify(execFile)('git', ['init', '--quiet'], { cwd: workspace })

    const client = await TestClient.connect(t, `ws://${address}/ws?userId=alice`)
    const { threadId } = await client.call('thread/start', {})
    const sample = [...spread('auto', ACCEPTED_CASES), ...spread('ask', ASKED_CASES)]
    t.equal(new Set(sample.map(({ command }) => command)).size, ACCEPTED_CASES + ASKED_CASES)
    const requests: Approval[] = []
    client.socket.on('message', (data) => {
      const { type, payload } = JSON.parse(String(data))
      if (type !== 'approval/request') return
      requests.push(payload)
      const answer = { approvalId: payload.approvalId, decision: 'decline' }
      client.send({ type: 'approval/respond', payload: answer })
    })

    for (const { command, expect, category } of sample) {
      const name = `${category}: ${JSON.stringify(command)}`
      const script = scriptOf(command).replaceAll(WORKSPACE, workspace)
      const { turnId } = await client.startTurn(`escalate: ${script}`, threadId)
      await client.waitForTurnEnd(turnId)

      const { records } = (await app.inject('/api/audit?userId=alice&limit=1')).json() as { records: AuditRecord[] }
      const [record] = records as [Extract<AuditRecord, { type: 'approval' }>]
      t.equal(record.turnId, turnId, `${name}: codex asked`)
      t.equal(record.verdict.verdict, expect === 'auto' ? 'accept' : 'ask', `${name}: ${record.verdict.reason}`)
      const request = requests.find((one) => one.turnId === turnId)
      t.equal(request !== undefined, expect === 'ask', name)
      // In the record secrets are redacted, and nothing that is accepted holds any.
      const { verdict, rule, reason } = await evaluate(request?.command ?? record.command ?? '')
      t.strictSame(record.verdict, { verdict, rule, reason }, name)
      t.equal(record.cwd, workspace)
    }
  }
)

/** Why a case cannot come from the demo model as a script for codex's shell; undefined when it can. */
function unsendable({ command, category }: Case): string | undefined {
  if (category === 'codex-protocol') return 'it is a whole approval text of another shape, not a script'
  if (command.includes('\0')) return 'codex replaces a script that holds a NUL'
  if (scriptOf(command).trim() !== scriptOf(command)) return 'blanks around a script are cut by the demo model'
  if (scriptOf(command) === '') return 'an empty script is not run'
  if (scriptOf(command) === command && /^\S*(?:ba|z|da|k)?sh\s/.test(command)) return 'codex wraps it in a second shell'
  return undefined
}

/** What stands in the shell call that codex would make of it. */
function scriptOf(command: string): string {
  return /^\/bin\/bash -lc '([^']*)'$/.exec(command)?.[1] ?? command
}

/** The same cases every time, from as many categories as there can be, and from the middle of what each holds. */
function spread(expect: Case['expect'], count: number): Case[] {
  const byCategory = new Map<string, Case[]>()
  for (const one of cases) {
    if (one.expect !== expect || unsendable(one) !== undefined) continue
    byCategory.set(one.category, [...(byCategory.get(one.category) ?? []), one])
  }
  const categories = [...byCategory.keys()].sort()
  const rounds = Math.ceil(count / categories.length)
  const candidates = Array.from({ length: rounds }, (_, round) =>
    categories.flatMap((category) => {
      const list = byCategory.get(category) ?? []
      return list[Math.floor((list.length * (2 * round + 1)) / (2 * rounds))] ?? []
    })
  ).flat()
  return Array.from({ length: count }, (_, n) => candidates[Math.floor((n * candidates.length) / count)] as Case)
}
