import { tmpdir } from 'node:os'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.ts'
import { type Config, loadConfig } from './config.ts'
import { PortInUse } from './errors.ts'

try {
  const config = loadConfig(process.env)
  const app = await buildApp(config, { env: process.env })
  closeWithGrace({ delay: config.shutdownTimeoutMs, logger: app.log }, async ({ err }) => {
    if (err) app.log.error({ err }, 'closing after an uncaught error')
    await app.close()
  })
  await listen(app, config)
  announce(app, config)
} catch (error) {
  // Before there is a logger, or instead of it: one line a person can act on.
  const { code, message } = error as { code?: string; message: string }
  process.stderr.write(`cloud-codex: ${code?.startsWith('CC_') ? `${code}: ` : ''}${message}\n`)
  process.exit(1)
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
  if (!app.pool.launcher.isolates)
    app.log.warn('NO OS ISOLATION: agents of one host can read each other’s files and the gateway’s data')
}
