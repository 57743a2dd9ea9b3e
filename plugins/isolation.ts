import fp from 'fastify-plugin'
import { IsolationUnavailable } from '../errors.ts'
import { locateCodexBinary } from '../src/codex/binary.ts'
import { type ChoiceOptions, chooseBubblewrap } from '../src/isolation/choose-bubblewrap.ts'
import type { Launcher } from '../src/isolation/launcher.ts'
import { noneLauncher } from '../src/isolation/none-launcher.ts'

export interface IsolationOptions extends Omit<ChoiceOptions, 'binary'> {
  /** ISOLATION. */
  mode: 'auto' | 'bubblewrap' | 'none'
  isProduction: boolean
  /** CODEX_BIN; undefined: the pinned dependency. */
  codexBin: string | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    launcher: Launcher
    /** The path of the codex binary on the host. */
    codexBinary: string
  }
}

/** How codex processes are started; proves at boot that it keeps users apart. After the audit log, which locks DATA_DIR. */
export default fp<IsolationOptions>(
  async function isolationPlugin(fastify, { mode, isProduction, codexBin, ...options }) {
    const binary = locateCodexBinary(codexBin, options.gatewayEnv.PATH)

    const choose = async (): Promise<Launcher> => {
      if (mode === 'none') return noneLauncher
      const { launcher, problem } = await chooseBubblewrap({ ...options, binary })
      if (launcher !== undefined) return launcher
      // Whoever asked for nothing in particular gets what a laptop can do; a service must say it aloud.
      if (mode === 'bubblewrap' || isProduction) throw new IsolationUnavailable(problem)
      fastify.log.warn({ problem }, 'bubblewrap does not isolate on this host')
      return noneLauncher
    }
    const launcher = await choose()
    fastify.log.info({ launcher: launcher.name }, 'launcher chosen')

    fastify.decorate('codexBinary', binary)
    fastify.decorate('launcher', launcher)
  },
  { name: 'isolation', dependencies: ['audit'] }
)
