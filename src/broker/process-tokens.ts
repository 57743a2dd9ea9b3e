import { createHash, randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'

/** What a codex process has instead of the model key. */
export interface ModelGrant {
  readonly token: string
  /** The token is worth nothing from here on, and what runs under it ends. */
  revoke(): void
}

/** Whose process a token belongs to. */
export interface TokenOwner {
  readonly userId: string
  /** Aborted with the token. */
  readonly revoked: AbortSignal
}

const TOKEN_BYTES = 32

/** The tokens of the codex processes that run: random, one each, in memory alone. */
export class ProcessTokens {
  /** By hash: a look-up by the token itself would take longer for a guess that begins right. */
  readonly #owners = new Map<string, TokenOwner>()

  /** A new token for one process of the user. */
  grant(userId: string): ModelGrant {
    const token = `ccp_${randomBytes(TOKEN_BYTES).toString('base64url')}`
    const key = digest(token)
    const revocation = new AbortController()
    // Each request that runs listens.
    setMaxListeners(0, revocation.signal)
    this.#owners.set(key, { userId, revoked: revocation.signal })
    return {
      token,
      revoke: () => {
        this.#owners.delete(key)
        revocation.abort()
      }
    }
  }

  /** The owner of the bearer token in an Authorization header; undefined for one that is unknown or revoked. */
  ownerOf(authorization: string | undefined): TokenOwner | undefined {
    const [, token] = /^Bearer (\S+)$/i.exec(authorization ?? '') ?? []
    return token === undefined ? undefined : this.#owners.get(digest(token))
  }
}

function digest(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
