import { tmpdir } from 'node:os'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.ts'
import { type Config, loadConfig } from './config.ts'
import { PortInUse } from './errors.ts'

const DRAIN_SIGNALS = ['SIGTERM', 'SIGINT'] as const
/** A fault whose signal has a JavaScript handler is met again as soon as that is scheduled: the process spins for ever. */
const FAULT_SIGNALS = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV'] as const

try {
  const config = loadConfig(process.env)
  const app = await buildApp(config, { env: process.env })
  endOnSignal(app, config)
  await listen(app, config)
  announce(app, config)
} catch (error) {
  // Before there is a logger, or instead of it: one line a person can act on.
  const { code, message } = error as { code?: string; message: string }
  process.stderr.write(`cloud-codex: ${code?.startsWith('CC_') ? `${code}: ` : ''}${message}\n`)
  process.exit(1)
}

/**
 * The first SIGTERM or SIGINT lets what runs finish, within DRAIN_TIMEOUT_MS, and then closes; the second ends the wait;
 * one more ends the process at once, as does a second error. Everything else that ends a process closes at once.
 */
function endOnSignal(app: FastifyInstance, { drainTimeoutMs, shutdownTimeoutMs }: Config): void {
  // Its delay counts from the close on, and it would take the second signal for the end of all patience.
  const grace = closeWithGrace(
    { delay: shutdownTimeoutMs, logger: app.log, skip: [...DRAIN_SIGNALS, ...FAULT_SIGNALS] },
    async ({ err }) => {
      if (err) app.log.error({ err }, 'closing after an uncaught error')
      await app.close()
    }
  )
  const drain = new AbortController()
  let stage: 'serving' | 'draining' | 'closing' = 'serving'
  const onSignal = async (signal: NodeJS.Signals) => {
    if (stage === 'closing') {
      app.log.error(`one more ${signal}, exiting`)
      process.exit(1)
    }
    if (stage === 'draining') return drain.abort()
    stage = 'draining'
    await app.sessions.drain(drainTimeoutMs, drain.signal)
    stage = 'closing'
    await grace.close()
  }
  for (const signal of DRAIN_SIGNALS) process.on(signal, (received) => void onSignal(received))
}

async function listen(app: FastifyInstance, { host, port }: Config): Promise<void> {
  try {
    await app.listen({ host, port })
  } catch (error) {
    await app.close()
    throw (error as { code?: string }).code === 'EADDRINUSE' ? new PortInUse(port, host) : error
  }
}

function announce(app: FastifyInstance, { model, auth, dataDir }: Config): void {
  if (['/tmp', '/var/tmp', tmpdir()].some((temporary) => dataDir.startsWith(`${temporary}/`)))
    app.log.warn('DATA_DIR is a temporary directory: codex runs no command in its sandbox there, and a reboot loses it')
  if (model.mode === 'demo')
    app.log.warn('DEMO MODE: a scripted model answers, no AI. Set OPENAI_API_KEY or MODEL_BASE_URL for a real one')
  if (auth.mode === 'development')
    app.log.warn('DEVELOPMENT MODE: no auth, callers say who they are; loopback only. Set JWT_SECRET or JWT_JWKS_URL')
  if (app.pool.launcher.isolates)
    app.log.warn('NETWORK SHARED: commands that are let out of codex’s sandbox reach this host’s loopback and network')
  else app.log.warn('NO OS ISOLATION: agents of one host can read each other’s files and the gateway’s data')
}
