import fp from 'fastify-plugin'
import { ProcessPool, type PoolOptions as ProcessPoolOptions } from '../src/codex/pool.ts'
import { readCodexVersion, TESTED_CODEX_VERSION } from '../src/codex/version.ts'

export type PoolOptions = Omit<ProcessPoolOptions, 'binary' | 'codexVersion' | 'launcher' | 'onGuardLost'>

declare module 'fastify' {
  interface FastifyInstance {
    pool: ProcessPool
  }
}

/** Supervised `codex app-server` processes, at most one per user. */
export default fp<PoolOptions>(
  async function poolPlugin(fastify, options) {
    const { codexBinary: binary, launcher } = fastify
    const codexVersion = await readCodexVersion(binary)
    if (codexVersion !== TESTED_CODEX_VERSION) {
      fastify.log.warn(
        { codexVersion, tested: TESTED_CODEX_VERSION },
        'this codex version is not tested with Cloud Codex'
      )
    }
    const onGuardLost = (reason: string) => {
      fastify.log.error({ reason }, 'the orphan guard is gone: a killed gateway may leave commands behind')
    }
    const pool = new ProcessPool({ ...options, binary, launcher, codexVersion, onGuardLost })
    const leftovers = await pool.prepare()
    if (leftovers > 0) fastify.log.warn({ leftovers }, 'ended processes that an earlier gateway left behind')
    // Not awaited: until the template is there, a new user's start is only slower.
    const warmUp = pool.warmUp().catch((error: Error) => {
      fastify.log.warn({ err: error }, 'the template codex home could not be made; new users start slower')
    })

    fastify.decorate('pool', pool)
    fastify.addHook('onClose', async () => {
      await pool.close()
      await warmUp
    })
  },
  { name: 'pool', dependencies: ['audit', 'broker', 'isolation'] }
)
