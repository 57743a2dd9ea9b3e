import type { Identity } from '../../schemas/identity.ts'
import type { FileListener } from '../files/listener.ts'
import type { JsonObject } from '../json.ts'

/** Who acts on a session: a user, or a webhook whose receiver showed a decision token. */
export interface Actor extends Pick<Identity, 'actorId' | 'roles'> {
  kind?: 'user' | 'webhook'
  /** Stays attached and hears approvals, so it may bring tools (dynamicTools): their calls are put before it. */
  answersToolCalls?: boolean
  /** Speaks codex's own protocol: fields that it may not send are dropped, as codex ignores those that it does not know. */
  isNative?: boolean
  /** The connection, where it takes notifications of its own. */
  listener?: FileListener
}

export interface RequestResult {
  payload: JsonObject
  /** Known fields that codex did not get (see guardParams). */
  dropped: string[]
}
