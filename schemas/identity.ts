import type { Role } from './common.ts'

/** Who is asking, and whose session it is about. */
export interface Identity {
  /** Whose threads, approvals and files. */
  userId: string
  /** Who is asking: the token's `sub`. Differs from `userId` only for `service` and `admin`. */
  actorId: string
  roles: Role[]
  /** When the token ends, milliseconds since the epoch; undefined when it does not. */
  expiresAtMs: number | undefined
}
