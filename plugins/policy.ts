import fp from 'fastify-plugin'
import type { Identity } from '../schemas/identity.ts'
import type { PolicyEvaluateBody, PolicyEvaluateResult, PolicyFile, PolicyView } from '../schemas/policy.ts'
import { decide } from '../src/approvals/decide.ts'
import { FileWatch } from '../src/approvals/file-watch.ts'
import { createFileView } from '../src/approvals/host-files.ts'
import type { PolicyVerdict } from '../src/approvals/ledger-entry.ts'
import { PolicyBook } from '../src/approvals/policy-book.ts'
import { type PolicyRequest, requestFromEvaluate, requestFromQuestion } from '../src/approvals/request.ts'
import { mayApproveFor, type Rules } from '../src/approvals/rules.ts'
import type { Question } from '../src/codex/server-requests.ts'
import type { SessionOwner } from '../src/session/session-options.ts'

export interface PolicyOptions {
  /** POLICY_FILE; undefined: the built-in policy. */
  file: string | undefined
  /** Used where the policy file says nothing. */
  timeoutMs: number
  maxMs: number
  /** Directories of the gateway, on the host, that are never in scope, whatever the policy lists. */
  protectedRoots: readonly string[]
}

export interface PolicyDesk {
  /** What the user's policy says to a question of codex, and how long it may wait. Paths are as codex sees them. */
  decide(question: Question, session: SessionOwner): Promise<PolicyVerdict>
  /** The same for a question that nobody asked; nothing happens. */
  evaluate(body: PolicyEvaluateBody, session: SessionOwner): Promise<PolicyEvaluateResult>
  /** Whether the policy lets `actor` decide the approvals of `userId`. */
  mayApprove(actor: Identity, userId: string): Promise<boolean>
  view(userId: string): Promise<PolicyView>
  /** Replaces the user's own layer, if it is valid, once `record` has resolved. Rejects with PolicyFileInvalid. */
  setUserLayer(userId: string, layer: PolicyFile, record: () => Promise<unknown>): Promise<PolicyView>
}

declare module 'fastify' {
  interface FastifyInstance {
    policy: PolicyDesk
  }
}

/** What is decided without asking a person: the owner's policy file over the built-in defaults, reread when it changes. */
export default fp<PolicyOptions>(
  async function policyPlugin(fastify, { file, timeoutMs, maxMs, protectedRoots }) {
    const book = await PolicyBook.open({ file, defaults: { timeoutMs }, documents: fastify.documents })
    let fileProblem: string | undefined

    const reload = async () => {
      try {
        const hasChanged = await book.reload()
        fileProblem = undefined
        if (hasChanged) fastify.log.info({ policyVersion: book.base.version }, 'approval policy reloaded')
      } catch (error) {
        fileProblem = (error as Error).message
        fastify.log.error(
          { err: error, policyVersion: book.base.version },
          'the new policy is broken; the old one stays'
        )
      }
    }
    if (file !== undefined) {
      let reloading = Promise.resolve()
      // One after the other: a slow read must not bring an older text back.
      const watch = new FileWatch(file, () => {
        reloading = reloading.then(reload)
      })
      fastify.addHook('onClose', async () => watch.close())
    }
    fastify.log.info({ policyVersion: book.base.version, file }, 'approval policy loaded')

    const judge = (request: PolicyRequest, rules: Rules, { directories, view }: SessionOwner) =>
      decide(request, rules, {
        ...createFileView(fastify.launcher.mounts(directories)),
        now: Date.now(),
        // Inside a box there is nothing of the gateway's, and its paths may mean something else.
        protectedRoots: fastify.launcher.isolates ? [view.codexHome, view.home] : protectedRoots
      })
    const view = async (userId: string, rules: Rules): Promise<PolicyView> => ({
      policy: rules.policy,
      userLayer: await book.userLayer(userId),
      ...(fileProblem === undefined ? {} : { fileProblem })
    })

    fastify.decorate('policy', {
      async decide(question, session) {
        const rules = await book.rulesFor(session.userId)
        const { timeoutMs: ownTimeoutMs, defaultAction } = rules.policy
        return {
          ...judge(requestFromQuestion(question, session.view.workspace), rules, session),
          policyVersion: rules.version,
          times: { timeoutMs: ownTimeoutMs, maxMs, defaultAction }
        }
      },
      async evaluate(body, session) {
        const { workspace } = session.view
        const rules = await book.rulesFor(session.userId)
        return { ...judge(requestFromEvaluate(body, workspace), rules, session), workspace }
      },
      async mayApprove({ actorId, roles }, userId) {
        const { policy } = await book.rulesFor(userId)
        return mayApproveFor(policy, { userId: actorId, roles }, userId)
      },
      view: async (userId) => view(userId, await book.rulesFor(userId)),
      setUserLayer: async (userId, layer, record) => view(userId, await book.setUserLayer(userId, layer, record))
    })
  },
  { name: 'policy', dependencies: ['isolation', 'store'] }
)
