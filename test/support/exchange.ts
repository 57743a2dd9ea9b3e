import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { APPROVAL_CASES, type ApprovalCase, DYNAMIC_TOOLS, escalate, run } from './approval-cases.ts'
import type { NativeClient, NativeMessage } from './native-client.ts'
import { type ScriptedModel, say } from './scripted-responses.ts'

/** One way to a codex: its own listener, or the gateway. Both have a model of their own that says the same. */
export interface ExchangeSide {
  client: NativeClient
  model: ScriptedModel
  /** A directory outside the workspace. */
  outside: string
}

export interface Call {
  method: string
  /** What was asked for, in words, where a method is called more than once. */
  what: string
  reply: NativeMessage
}

/** What a client that is accepted, declined and cancelled by hand answers, by the method of the question. */
const ANSWERS: Record<string, { accept: object; refuse: object[] }> = {
  'item/commandExecution/requestApproval': {
    accept: { decision: 'accept' },
    refuse: [{ decision: 'decline' }, { decision: 'cancel' }]
  },
  'item/fileChange/requestApproval': {
    accept: { decision: 'accept' },
    refuse: [{ decision: 'decline' }, { decision: 'cancel' }]
  },
  'item/permissions/requestApproval': {
    accept: { permissions: { network: { enabled: true } }, scope: 'turn' },
    refuse: [{ permissions: {}, scope: 'turn' }]
  },
  'item/tool/requestUserInput': { accept: { answers: { q: { answers: ['violet'] } } }, refuse: [{ answers: {} }] },
  'mcpServer/elicitation/request': {
    accept: { action: 'accept', content: { colour: 'violet' }, _meta: null },
    refuse: [
      { action: 'decline', content: null, _meta: null },
      { action: 'cancel', content: null, _meta: null }
    ]
  },
  'item/tool/call': {
    accept: { contentItems: [{ type: 'inputText', text: 'looked up' }], success: true },
    refuse: [{ contentItems: [{ type: 'inputText', text: 'tool unavailable' }], success: false }]
  }
}

type AskedKind = Pick<ApprovalCase, 'title' | 'answers' | 'opensTerminal'>

/** Its request carries a field that codex shows to experimental clients only. */
const MORE_PERMISSIONS: AskedKind = {
  title: 'a command with more permissions',
  answers: (effect) => {
    const additional_permissions = { file_system: { write: [dirname(effect)] } }
    return [[run(`touch ${effect}`, { sandbox_permissions: 'with_additional_permissions', additional_permissions })]]
  }
}

/** The methods with which a server can ask a client of this exchange. */
export const ASKED_METHODS = Object.keys(ANSWERS)

/**
 * A conversation that calls every method that the method table opens, once at least, and meets every kind of question.
 * It is the same on every side; what came back is in `calls`, and in what the client has received.
 */
export class Exchange {
  readonly calls: Call[] = []
  readonly #side: ExchangeSide
  #lastEffect = 0

  constructor(side: ExchangeSide) {
    this.#side = side
  }

  async run(): Promise<void> {
    await this.#handshake()
    await this.#surroundings()
    const { threadId, workspace } = await this.#startThread()
    await this.#files(workspace)
    await this.#history(threadId)
    await this.#goals(threadId)
    await this.#sections(threadId)
    for (const kind of [...APPROVAL_CASES, MORE_PERMISSIONS]) await this.#questions(threadId, kind)
    await this.#runningTurn(threadId)
    await this.#queue(threadId)
    await this.#terminals(threadId)
    await this.#reviewAndCompact(threadId)
    await this.#lifeOfThreads(threadId)
  }

  async #handshake(): Promise<void> {
    const { client } = this.#side
    await this.#call('thread/list', {}, 'before initialize')
    const clientInfo = { name: 'conformance', title: 'Conformance', version: '1.2.3' }
    await this.#call('initialize', { capabilities: {} }, 'without clientInfo')
    await this.#call('initialize', {
      clientInfo,
      capabilities: { experimentalApi: true, requestAttestation: false, optOutNotificationMethods: ['thread/started'] }
    })
    client.send({ method: 'initialized' })
    await this.#call('initialize', { clientInfo, capabilities: {} }, 'a second one')
    await this.#call('thread/list', { limit: 'many' }, 'a wrong type')
    await this.#call('thread/read', { threadId: '01a203b7-0000-7000-8000-000000000000' }, 'a thread that is not there')
    await this.#call('thread/read', { threadId: 'no id at all' }, 'an id that is none')
    await this.#call('turn/start', { threadId: '01a203b7-0000-7000-8000-000000000000', input: [] }, 'no such thread')
  }

  async #surroundings(): Promise<void> {
    await this.#call('model/list', {})
    await this.#call('model/list', { limit: 1, includeHidden: true }, 'a page')
    await this.#call('modelProvider/capabilities/read')
    await this.#call('account/read')
    await this.#call('account/rateLimits/read')
    await this.#call('account/usage/read')
    await this.#call('permissionProfile/list')
    await this.#call('experimentalFeature/list', { limit: 200 })
    await this.#call('configRequirements/read')
    await this.#call('collaborationMode/list')
    await this.#call('skills/list')
    await this.#call('mcpServerStatus/list')
    await this.#call('config/read', { includeLayers: false })
    await this.#call('hooks/list')
    await this.#call('plugin/list')
    await this.#call('plugin/installed')
    await this.#call('account/bedrock/checkGovCloudRequirements')
  }

  async #startThread(): Promise<{ threadId: string; workspace: string }> {
    const { thread, cwd: workspace } = await this.#result('thread/start', { dynamicTools: DYNAMIC_TOOLS })
    const { id: threadId } = thread
    await this.#call('thread/loaded/list')
    await this.#call('thread/name/set', { threadId, name: 'A thread to compare' })
    await this.#call('thread/metadata/update', { threadId, gitInfo: { branch: 'main', sha: 'abcdef0' } })
    await this.#turn(threadId, this.#side.model.script([say('The first answer.')]))
    return { threadId, workspace }
  }

  async #files(workspace: string): Promise<void> {
    const [directory, file] = [join(workspace, 'files', 'deep'), join(workspace, 'files', 'one.txt')]
    await this.#call('fs/createDirectory', { path: directory })
    await this.#call('fs/createDirectory', { path: directory, recursive: false }, 'one that is there')
    await this.#call(
      'fs/createDirectory',
      { path: join(workspace, 'none', 'x'), recursive: false },
      'without its parent'
    )
    await this.#call('fs/writeFile', { path: file, dataBase64: Buffer.from('some words').toString('base64') })
    await this.#call('fs/writeFile', { path: file, dataBase64: 'no base64!' }, 'no base64')
    await this.#call('fs/writeFile', { path: join(workspace, 'none', 'x'), dataBase64: '' }, 'without its directory')
    await this.#call('fs/readFile', { path: file })
    await this.#call('fs/readFile', { path: join(workspace, 'none') }, 'none')
    await this.#call('fs/readFile', { path: directory }, 'a directory')
    await this.#call('fs/copy', { sourcePath: file, destinationPath: join(directory, 'two.txt') })
    await this.#call('fs/copy', { sourcePath: directory, destinationPath: join(workspace, 'copied') }, 'a directory')
    const tree = { sourcePath: directory, destinationPath: join(workspace, 'copied'), recursive: true }
    await this.#call('fs/copy', tree, 'a tree')
    await this.#call('fs/getMetadata', { path: file })
    await this.#call('fs/getMetadata', { path: directory }, 'a directory')
    await this.#call('fs/getMetadata', { path: join(workspace, 'none') }, 'none')
    await this.#call('fs/readDirectory', { path: join(workspace, 'copied') })
    await this.#call('fs/readDirectory', { path: file }, 'a file')
    await this.#call('fuzzyFileSearch', { query: 'two', roots: [workspace], cancellationToken: null })
    await this.#call('fuzzyFileSearch', { query: '', roots: [workspace], cancellationToken: null }, 'nothing')
    await this.#searches(workspace)
    await this.#watches(join(workspace, 'files'))
    await this.#call(
      'fs/remove',
      { path: join(workspace, 'copied'), recursive: false },
      'a directory that is not empty'
    )
    await this.#call('fs/remove', { path: join(workspace, 'copied') })
    await this.#call('fs/remove', { path: join(workspace, 'copied') }, 'again')
    await this.#call('fs/remove', { path: join(workspace, 'copied'), force: false }, 'again, and not by force')
  }

  async #history(threadId: string): Promise<void> {
    const { readStates = {} } = await this.#result('thread/list', { limit: 5 })
    await this.#call('thread/list', { limit: 5, sortKey: 'updated_at', searchTerm: 'nothing like it' }, 'nothing')
    await this.#call('thread/read', { threadId })
    await this.#call('thread/read', { threadId, includeTurns: true }, 'with turns')
    const { data: turns = [] } = await this.#result('thread/turns/list', { threadId, itemsView: 'full' })
    const { data: items = [] } = await this.#result('thread/items/list', { threadId })
    const itemIds = items.slice(0, 1).map((row: { item?: { id: string }; id?: string }) => row.item?.id ?? row.id)
    await this.#call('thread/items/read', { threadId, turnId: turns[0]?.id, itemIds })
    await this.#call('thread/timeline/list', { threadId })
    await this.#call('thread/search', { searchTerm: 'first answer' })
    await this.#call('thread/searchOccurrences', { threadId, searchTerm: 'answer' })
    await this.#call(
      'thread/readState/update',
      { threadId, expectedRevision: '0', operation: { type: 'read' } },
      'stale'
    )
    const expectedRevision = readStates[threadId]?.revision
    await this.#call('thread/readState/update', { threadId, expectedRevision, operation: { type: 'read' } })
  }

  /** A search that follows what somebody types. */
  async #searches(workspace: string): Promise<void> {
    const { client } = this.#side
    await this.#call('fuzzyFileSearch/sessionUpdate', { sessionId: 's', query: 'x' }, 'before it is started')
    await this.#call('fuzzyFileSearch/sessionStart', { sessionId: 's', roots: [workspace] })
    for (const query of ['t', 'two']) {
      await this.#call('fuzzyFileSearch/sessionUpdate', { sessionId: 's', query }, query)
      await client.notified(
        'fuzzyFileSearch/sessionUpdated',
        (params) => params.query === query && params.files.length > 0
      )
    }
    await this.#call('fuzzyFileSearch/sessionStop', { sessionId: 's' })
    await this.#call('fuzzyFileSearch/sessionStop', { sessionId: 's' }, 'again')
  }

  async #watches(directory: string): Promise<void> {
    const { client } = this.#side
    const file = join(directory, 'watched.txt')
    await this.#call('fs/watch', { watchId: 'w', path: directory })
    await this.#call('fs/watch', { watchId: 'w', path: directory }, 'a second one of the name')
    await this.#call('fs/watch', { watchId: 'v', path: join(directory, 'none') }, 'nothing there')
    await this.#call('fs/writeFile', { path: file, dataBase64: '' }, 'what is watched')
    await client.notified('fs/changed', ({ watchId, changedPaths }) => watchId === 'w' && changedPaths.includes(file))
    await this.#call('fs/unwatch', { watchId: 'w' })
    await this.#call('fs/unwatch', { watchId: 'w' }, 'again')
  }

  async #goals(threadId: string): Promise<void> {
    await this.#call('thread/goal/get', { threadId }, 'none')
    await this.#call('thread/goal/set', { threadId, objective: 'to compare', status: 'paused', tokenBudget: 1000 })
    await this.#call('thread/goal/get', { threadId })
    await this.#call('thread/goal/clear', { threadId })
  }

  async #sections(threadId: string): Promise<void> {
    const created = await this.#result('threadSection/create', { name: 'Compared' })
    const sectionId = created.section?.id ?? created.id
    await this.#call('threadSection/update', { sectionId, name: 'Compared again' })
    await this.#call('thread/section/move', { threadId, sectionId })
    await this.#call('threadSection/list')
    await this.#call('thread/section/move', { threadId, sectionId: null }, 'out of it')
    await this.#call('threadSection/delete', { sectionId })
  }

  /** Accepted once, and refused in every way there is. */
  async #questions(threadId: string, kind: AskedKind): Promise<void> {
    const { model, outside } = this.#side
    let isAccepting = true
    for (let refusal = -1; ; refusal++) {
      const effect = join(outside, `effect-${++this.#lastEffect}.txt`)
      const turnId = await this.#begin(threadId, model.script(...kind.answers(effect)), `${kind.title}, ${refusal}`)
      if (kind.opensTerminal) await this.#answerNext(turnId, true, 0)
      const refusals = await this.#answerNext(turnId, isAccepting, refusal)
      await this.#ended(threadId, turnId)
      isAccepting = false
      if (refusal + 1 >= refusals) return
    }
  }

  async #runningTurn(threadId: string): Promise<void> {
    const { model, outside } = this.#side
    const steered = await this.#begin(threadId, model.script([escalate(`touch ${outside}/steered`)]), 'to steer')
    const question = await this.#asked(steered)
    const input = [{ type: 'text', text: 'and another thing', text_elements: [] }]
    await this.#call('turn/steer', { threadId, input, expectedTurnId: steered })
    await this.#call('turn/steer', { threadId, input, expectedTurnId: 'another' }, 'another turn')
    this.#side.client.answer(question, { decision: 'decline' })
    await this.#ended(threadId, steered)

    const cut = await this.#begin(threadId, model.script([escalate(`touch ${outside}/cut`)]), 'to interrupt')
    await this.#asked(cut)
    await this.#call('turn/interrupt', { threadId, turnId: cut })
    await this.#ended(threadId, cut)
    await this.#call('turn/interrupt', { threadId, turnId: cut }, 'nothing runs')
  }

  async #queue(threadId: string): Promise<void> {
    const { model, outside, client } = this.#side
    const text = (words: string) => [{ type: 'text', text: words, text_elements: [] }]
    const add = (clientUserMessageId: string, words: string) =>
      this.#result('thread/queue/add', { threadId, clientUserMessageId, input: text(words) }, clientUserMessageId)
    const busy = await this.#begin(threadId, model.script([escalate(`touch ${outside}/busy`)]), 'to queue behind')
    const question = await this.#asked(busy)
    await add('first', model.script([say('The queued answer.')]))
    await add('second', 'never sent')
    const { data = [] } = await this.#result('thread/queue/list', { threadId })
    const ids: string[] = data.map(({ id }: { id: string }) => id)
    const [first, second] = ids
    await this.#call('thread/queue/reorder', { threadId, queuedSubmissionIds: ids.toReversed() })
    await this.#call('thread/queue/update', { threadId, queuedSubmissionId: second, input: text('not this either') })
    await this.#call('thread/queue/delete', { threadId, queuedSubmissionId: second })
    await this.#call('turn/interrupt', { threadId, turnId: busy }, 'what the queue waits for')
    await client.notified('serverRequest/resolved', ({ requestId }) => requestId === question.id)
    await this.#ended(threadId, busy)
    const started = await this.#result('thread/queue/start', { threadId, queuedSubmissionId: first })
    await this.#ended(threadId, started.turn?.id)
    await this.#call('thread/queue/list', { threadId }, 'empty')
  }

  async #terminals(threadId: string): Promise<void> {
    const { model } = this.#side
    await this.#call('thread/backgroundTerminals/clean', { threadId }, 'those of the questions')
    await this.#turn(threadId, model.script([run('sleep 600', { tty: true, yield_time_ms: 250 })]))
    const { data = [] } = await this.#result('thread/backgroundTerminals/list', { threadId })
    await this.#call('thread/backgroundTerminals/terminate', { threadId, processId: data[0]?.processId ?? 'none' })
    await this.#call('thread/backgroundTerminals/clean', { threadId })
  }

  async #reviewAndCompact(threadId: string): Promise<void> {
    const { model } = this.#side
    const instructions = model.script([say('Nothing to remark.')])
    const review = await this.#result('review/start', { threadId, target: { type: 'custom', instructions } })
    await this.#ended(threadId, review.turn?.id)
    const known = this.#turnsOf(threadId)
    await this.#call('thread/compact/start', { threadId })
    const compacted = await this.#side.client.notified(
      'turn/completed',
      (params) => params.threadId === threadId && !known.includes(params.turn.id)
    )
    await this.#ended(threadId, compacted.params.turn.id)
  }

  async #lifeOfThreads(threadId: string): Promise<void> {
    const forked = await this.#result('thread/fork', { threadId, excludeTurns: true })
    const forkId = forked.thread?.id
    const answer = await this.#turn(forkId, this.#side.model.script([say('Another answer.')]))
    await this.#call('thread/revert', { threadId: forkId, beforeTurnId: answer })
    await this.#toolsReady(forkId, 2)
    await this.#call('thread/unsubscribe', { threadId: forkId })
    await this.#call('thread/unsubscribe', { threadId: forkId }, 'again')
    await this.#call('thread/resume', { threadId: forkId, excludeTurns: true })
    await this.#call('thread/resume', { threadId, initialTurnsPage: { limit: 2 }, excludeTurns: true }, 'one that runs')
    await this.#call('thread/archive', { threadId: forkId })
    await this.#call('thread/list', { archived: true }, 'archived ones')
    await this.#call('thread/unarchive', { threadId: forkId })
    await this.#call('thread/delete', { threadId: forkId })
    await this.#call('thread/read', { threadId: forkId }, 'a deleted one')
    await this.#turn(threadId, this.#side.model.script([say('The last answer.')]))
  }

  async #call(method: string, params: object = {}, what = ''): Promise<NativeMessage> {
    const reply = await this.#side.client.request(method, params)
    this.calls.push({ method, what, reply })
    return reply
  }

  /** The result, or {} when the reply is an error: the other side has to give the same error. */
  // biome-ignore lint/suspicious/noExplicitAny: see NativeMessage
  async #result(method: string, params: object = {}, what = ''): Promise<any> {
    return (await this.#call(method, params, what)).result ?? {}
  }

  async #begin(threadId: string, prompt: string, what: string): Promise<string> {
    const input = [{ type: 'text', text: prompt, text_elements: [] }]
    const { turn } = await this.#result('turn/start', { threadId, input }, what)
    return turn?.id
  }

  /** Runs a turn in which nothing is asked. Returns its id. */
  async #turn(threadId: string, prompt: string): Promise<string> {
    const turnId = await this.#begin(threadId, prompt, prompt)
    await this.#ended(threadId, turnId)
    return turnId
  }

  /** The turn is over, and the thread says that it is idle again. */
  async #ended(threadId: string, turnId: string): Promise<void> {
    const { client } = this.#side
    const completed = await client.notified('turn/completed', ({ turn }) => turn.id === turnId)
    const from = client.received.indexOf(completed)
    await client.waitFor(
      (message) =>
        client.received.indexOf(message) > from - 3 &&
        message.method === 'thread/status/changed' &&
        message.params.threadId === threadId &&
        message.params.status.type === 'idle',
      'idle thread'
    )
    await delay(0)
  }

  #asked(turnId: string): Promise<NativeMessage> {
    return this.#side.client.waitFor(
      (message) =>
        message.method !== undefined &&
        message.id !== undefined &&
        message.params.turnId === turnId &&
        !this.#isAnswered(message),
      'question'
    )
  }

  readonly #answered = new Set<unknown>()

  #isAnswered({ id }: NativeMessage): boolean {
    return this.#answered.has(id)
  }

  /** Answers the next question of a turn. Returns how many refusals its kind has. */
  async #answerNext(turnId: string, isAccepting: boolean, refusal: number): Promise<number> {
    const { client } = this.#side
    const question = await this.#asked(turnId)
    this.#answered.add(question.id)
    const answers = ANSWERS[question.method ?? '']
    if (answers === undefined) throw new Error(`no answer for ${question.method}`)
    client.answer(question, isAccepting ? answers.accept : (answers.refuse[refusal] as object))
    return answers.refuse.length
  }

  /** A thread that is loaded starts its MCP servers, beside all else; it must not be closed before that has ended. */
  async #toolsReady(threadId: string, times: number): Promise<void> {
    const { client } = this.#side
    const isReady = ({ method, params }: NativeMessage) =>
      method === 'mcpServer/startupStatus/updated' && params.threadId === threadId && params.status === 'ready'
    await client.waitFor(
      (message) => isReady(message) && client.received.filter(isReady).length >= times,
      'MCP servers that are ready'
    )
  }

  #turnsOf(threadId: string): string[] {
    return this.#side.client.received
      .filter(({ method, params }) => method === 'turn/completed' && params.threadId === threadId)
      .map(({ params }) => params.turn.id)
  }
}
