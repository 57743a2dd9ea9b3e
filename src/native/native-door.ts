import { MessageTooLarge, UnknownMessageType } from '../../errors.ts'
import type { Approval } from '../../schemas/approvals.ts'
import type { Identity } from '../../schemas/identity.ts'
import { findMethod } from '../codex/methods.ts'
import { asObject, asText, type JsonObject, type JsonValue } from '../json.ts'
import type { Actor } from '../session/actor.ts'
import type { ClientSink, SessionClient } from '../session/client.ts'
import { greetsClients } from '../session/process-notices.ts'
import type { Session } from '../session/session.ts'
import { Greetings } from './greetings.ts'
import { type Incoming, readIdOnly, readIncoming } from './incoming.ts'
import { type Greeting, invalid, missing, readInitialize, replyTo } from './initialize.ts'
import { type NativeError, toNativeError } from './native-errors.ts'
import { errorFrame, frameOf, resultFrame, resultOf } from './native-frames.ts'
import { NativeListener } from './native-listener.ts'
import { Outlet, type ReplySlot } from './outlet.ts'
import { SendOrder } from './send-order.ts'
import { ServerRequests } from './server-requests.ts'
import { methodOf, paramsOf, Subscriptions } from './subscriptions.ts'

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024
/** Methods whose params codex does not ask for. */
const WITHOUT_PARAMS = new Set(['configRequirements/read'])
/** Their caller hears of the thread from now on. */
const SUBSCRIBES = new Set(['thread/start', 'thread/resume', 'thread/fork'])
const ENDS_THREAD = new Set(['thread/archived', 'thread/deleted', 'thread/closed'])
const RESOLVED = 'serverRequest/resolved'
const SUB_AGENT = Buffer.from('"subAgent"')
/** Of a method's name, in an error. */
const MAX_ECHO_CHARS = 256
/** WebSocket close code "try again later". */
const TRY_AGAIN_LATER = 1013

type Request = Extract<Incoming, { kind: 'request' }>

/** What a client is after `initialize`. */
interface Native {
  isExperimental: boolean
  subscriptions: Subscriptions
  requests: ServerRequests
}

export interface NativeDoorOptions {
  session: Session
  sink: ClientSink
  identity: Identity
  log: { debug(fields: object, message: string): void }
}

/**
 * codex's own protocol for one client of many: to it the session is a `codex app-server` of its own. It says who it is
 * to the gateway; its requests pass the same table and guards as all others; it hears of the threads that it has
 * subscribed to.
 */
export class NativeDoor {
  readonly identity: Identity
  /** Its place in the session. */
  readonly client: SessionClient
  readonly #actor: Actor & Identity
  readonly #listener: NativeListener
  readonly #session: Session
  readonly #log: NativeDoorOptions['log']
  readonly #outlet: Outlet
  readonly #greetings = new Greetings()
  readonly #order = new SendOrder()
  #welcoming: Promise<void> | undefined
  #native: Native | undefined

  constructor({ session, sink, identity, log }: NativeDoorOptions) {
    this.#session = session
    this.identity = identity
    this.#listener = new NativeListener(
      (method) => this.#native?.subscriptions.wants(method) === true,
      (line) => this.#outlet.sendNow([frameOf(line)])
    )
    this.#actor = { ...identity, answersToolCalls: true, isNative: true, listener: this.#listener }
    this.#log = log
    this.#outlet = new Outlet(sink, session.journal.lastSeq, {
      passEvent: (bytes, start, end) => this.#passEvent(bytes, start, end),
      translate: (type, message) => this.#translate(type, message)
    })
    this.client = session.attach(this.#outlet)
  }

  /** Handles one message. Never rejects. */
  async handle(data: Buffer, isBinary = false): Promise<void> {
    // codex drops these without a word, too.
    if (isBinary) return
    if (data.length > MAX_MESSAGE_BYTES) {
      const id = readIdOnly(data.toString('utf8'))
      if (id !== undefined) this.#refuse(id, toNativeError(new MessageTooLarge(MAX_MESSAGE_BYTES)))
      return
    }
    // The process may have to be started for it, and a client need not wait with what it says next.
    while (this.#welcoming !== undefined) await this.#welcoming
    const message = readIncoming(data.toString('utf8'))
    if (message.kind === 'request') await this.#onRequest(message)
    else if (message.kind === 'answer') {
      await this.#native?.requests.answer(message.id, message.result, this.#actor)
    }
  }

  /** The client is gone. */
  close(): void {
    this.#native?.requests.close()
    this.#listener.close()
    this.#session.detach(this.client)
  }

  async #onRequest(request: Request): Promise<void> {
    const { id, method, params } = request
    const native = this.#native
    const row = findMethod(method)
    if (row === undefined) this.#refuse(id, unknownMethod(method))
    else if ((params ?? null) === null && !WITHOUT_PARAMS.has(method)) this.#refuse(id, missing('params'))
    else if (method === 'initialize') this.#initialize(id, params)
    else if (native === undefined) this.#refuse(id, invalid('Not initialized'))
    else if (row.experimental && !native.isExperimental) {
      this.#refuse(id, invalid(`${method} requires experimentalApi capability`))
    } else if (method === 'thread/unsubscribe') await this.#unsubscribe(request, native)
    else await this.#forward(request, native)
  }

  #initialize(id: string, params: JsonValue | undefined): void {
    const greeting = readInitialize(params)
    if ('code' in greeting) this.#refuse(id, greeting)
    else if (this.#native !== undefined) this.#refuse(id, invalid('Already initialized'))
    else {
      this.#welcoming = this.#welcome(id, greeting)
        .catch((error) => this.#refuse(id, toNativeError(error)))
        .finally(() => {
          this.#welcoming = undefined
        })
    }
  }

  async #welcome(id: string, greeting: Greeting): Promise<void> {
    const { isExperimental, optedOut } = greeting
    const { reply, notices } = await this.#session.handshake()
    const subscriptions = new Subscriptions(optedOut)
    const send = (frames: readonly Buffer[]) => this.#outlet.sendNow(frames)
    const requests = new ServerRequests({ session: this.#session, isExperimental, send })
    // What came before is nothing to a client that was not there yet.
    this.#session.flush()
    this.#native = { isExperimental, subscriptions, requests }
    send([resultFrame(id, asBytes(replyTo(greeting, reply)))])
    send(this.#greetings.frames(notices, (method) => subscriptions.wants(method)))
  }

  async #forward({ id, method, params }: Request, native: Native): Promise<void> {
    let slot: ReplySlot | undefined
    let frame: Buffer | undefined
    const onReply = (line: Buffer) => {
      slot = this.#outlet.reserve(this.#session.journal.lastSeq)
      const result = resultOf(line)
      if (result !== undefined) frame = resultFrame(id, result)
    }
    const threadId = asText(asObject(params).threadId)
    const opened = this.#opening(method, threadId, native)
    try {
      const { payload, dropped } = await this.#order.run(threadId, (onSent) =>
        this.#session.request(method, params, this.#actor, { onSent, onReply })
      )
      if (dropped.length > 0) this.#log.debug({ userId: this.#actor.userId, method, dropped }, 'fields were dropped')
      const reply = frame ?? resultFrame(id, asBytes(payload))
      this.#reply(slot, () => [...opened(payload), reply, ...this.#afterReply(method, payload, native)])
    } catch (error) {
      this.#reply(slot, () => [...opened({}), errorFrame(id, toNativeError(error))])
    }
  }

  /** For a request that opens a thread: what came of it before the reply, once that is known. */
  #opening(method: string, threadId: string | undefined, native: Native): (result: JsonObject) => Buffer[] {
    // A thread that is open already is heard from the reply on.
    const isOpen = method === 'thread/resume' && this.#session.isLoaded(threadId ?? '')
    if (!SUBSCRIBES.has(method) || isOpen) return () => []
    const { early } = native.subscriptions
    early.begin()
    return (result) => early.end(asText(asObject(result.thread).id))
  }

  #reply(slot: ReplySlot | undefined, take: () => readonly Buffer[]): void {
    if (slot === undefined) {
      this.#outlet.sendNow(take())
      return
    }
    // What codex said before its reply must not wait for the end of this turn of the loop, or the reply would too.
    this.#session.flush()
    this.#outlet.fill(slot, take)
  }

  /** What follows the reply, now that the client has it. */
  #afterReply(method: string, result: JsonObject, { subscriptions, requests }: Native): readonly Buffer[] {
    const threadId = asText(asObject(result.thread).id)
    if (threadId === undefined || !SUBSCRIBES.has(method)) return []
    subscriptions.add(threadId)
    return method === 'thread/resume' ? requests.askAll(threadId) : []
  }

  /** The process itself stays subscribed: its other clients are served from the same events. */
  async #unsubscribe({ id, method, params }: Request, { subscriptions }: Native): Promise<void> {
    try {
      await this.#session.check(method, params, this.#actor)
      const threadId = asText(asObject(params).threadId) ?? ''
      const wasSubscribed = subscriptions.delete(threadId)
      const isLoaded = this.#session.isLoaded(threadId)
      const status = !isLoaded ? 'notLoaded' : wasSubscribed ? 'unsubscribed' : 'notSubscribed'
      this.#outlet.sendNow([resultFrame(id, asBytes({ status }))])
    } catch (error) {
      this.#refuse(id, toNativeError(error))
    }
  }

  #passEvent(bytes: Buffer, start: number, end: number): boolean {
    const native = this.#native
    if (native === undefined) return false
    const { subscriptions, requests } = native
    const alike = subscriptions.passAsBefore(bytes, start, end)
    if (alike !== undefined) return alike
    const method = methodOf(bytes, start, end)
    if (method === undefined) return false
    if (method === RESOLVED) {
      return requests.onResolvedByCodex(paramsOf(bytes, start, end)) && subscriptions.wants(method)
    }
    if (greetsClients(method)) return subscriptions.wants(method) && this.#greetings.isNew(bytes.subarray(start, end))
    const passes = subscriptions.pass(method, bytes, start, end)
    if (ENDS_THREAD.has(method)) subscriptions.delete(asText(paramsOf(bytes, start, end).threadId) ?? '')
    else if (method === 'thread/started') this.#adopt(bytes.subarray(start, end), subscriptions)
    return passes
  }

  /** Threads that codex starts itself, for its sub-agents, are everybody's. */
  #adopt(line: Buffer, subscriptions: Subscriptions): void {
    if (!line.includes(SUB_AGENT)) return
    const thread = asObject(paramsOf(line, 0, line.length).thread)
    const threadId = asText(thread.id)
    if (threadId !== undefined && asObject(thread.source).subAgent !== undefined) subscriptions.add(threadId)
  }

  #translate(type: string, message: Buffer): readonly Buffer[] {
    if (type === 'session/gap') {
      // codex's protocol has no word for it; a client that comes back reads the thread's history.
      this.client.close(TRY_AGAIN_LATER, 'too far behind; reconnect and resume your threads')
      return []
    }
    const native = this.#native
    if (native === undefined || !type.startsWith('approval/')) return []
    const { subscriptions, requests } = native
    const { payload } = JSON.parse(message.toString('utf8')) as { payload: JsonObject }
    if (type === 'approval/resolved') return requests.onResolved(payload, subscriptions.wants(RESOLVED))
    if (type !== 'approval/request') return []
    const approval = payload as unknown as Approval
    return approval.threadId === null || subscriptions.has(approval.threadId) ? requests.askOnce(approval) : []
  }

  #refuse(id: string, error: NativeError): void {
    this.#outlet.sendNow([errorFrame(id, error)])
  }
}

/** codex's own words go on with the names of all its methods. */
function unknownMethod(method: string): NativeError {
  const shown = method.slice(0, MAX_ECHO_CHARS)
  return { ...toNativeError(new UnknownMessageType(shown)), message: `Invalid request: unknown variant \`${shown}\`` }
}

function asBytes(value: object): Buffer {
  return Buffer.from(JSON.stringify(value))
}
