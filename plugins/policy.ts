import { readFile } from 'node:fs/promises'
import fp from 'fastify-plugin'
import { PolicyFileInvalid } from '../errors.ts'
import type { PolicyEvaluateBody, PolicyEvaluateResult } from '../schemas/policy.ts'
import { decide } from '../src/approvals/decide.ts'
import { hostFiles } from '../src/approvals/host-files.ts'
import type { LedgerTimes, PolicyVerdict } from '../src/approvals/ledger.ts'
import { parsePolicyFile } from '../src/approvals/policy-file.ts'
import { type PolicyRequest, requestFromEvaluate, requestFromQuestion } from '../src/approvals/request.ts'
import { compileRules, type Rules } from '../src/approvals/rules.ts'
import type { Question } from '../src/codex/server-requests.ts'

export interface PolicyOptions {
  /** POLICY_FILE; undefined: the built-in policy. */
  file: string | undefined
  /** Used where the policy file says nothing. */
  timeoutMs: number
  maxMs: number
  /** Directories of the gateway that are never in scope, whatever the policy lists. */
  protectedRoots: readonly string[]
}

export interface Policy {
  /** What the policy says to a question of codex. `workspace`: as codex sees it. */
  decide(question: Question, workspace: string): PolicyVerdict
  /** The same for a question that nobody asked; nothing happens. */
  evaluate(body: PolicyEvaluateBody, workspace: string): PolicyEvaluateResult
  times(): LedgerTimes
}

declare module 'fastify' {
  interface FastifyInstance {
    policy: Policy
  }
}

/** What is decided without asking a person: the owner's policy file over the built-in defaults. */
export default fp<PolicyOptions>(
  async function policyPlugin(fastify, { file, timeoutMs, maxMs, protectedRoots }) {
    const rules = await loadRules(file, timeoutMs)
    const judge = (request: PolicyRequest) => decide(request, rules, { ...hostFiles, now: Date.now(), protectedRoots })

    fastify.log.info({ policyVersion: rules.version, file }, 'approval policy loaded')
    fastify.decorate('policy', {
      decide: (question, workspace) => ({
        ...judge(requestFromQuestion(question, workspace)),
        policyVersion: rules.version
      }),
      evaluate: (body, workspace) => ({ ...judge(requestFromEvaluate(body, workspace)), workspace }),
      times: () => ({ timeoutMs: rules.policy.timeoutMs, maxMs, defaultAction: rules.policy.defaultAction })
    })
  },
  { name: 'policy' }
)

async function loadRules(file: string | undefined, timeoutMs: number): Promise<Rules> {
  if (file === undefined) return compileRules([{ timeoutMs }])
  const text = await readFile(file, 'utf8').catch((error: Error) => {
    throw new PolicyFileInvalid(file, error.message)
  })
  return compileRules([{ timeoutMs }, parsePolicyFile(text, file)])
}
