import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { buildApp } from '../../app.ts'
import { loadConfig } from '../../config.ts'

/** Scratch space for codex homes and workspaces: not under /tmp, where codex refuses to work fully. */
const SCRATCH = resolve('.cloud-codex', 'test')

/** Most tests are about other things, and no isolation is fastest; the variable runs them under a launcher. */
export const TEST_ISOLATION = process.env.TEST_ISOLATION ?? 'none'

/** What a test needs to say when it ends; tap's own test object fits. */
export interface Teardown {
  teardown(handler: () => unknown): void
}

export interface Gateway {
  app: FastifyInstance
  /** `127.0.0.1:<port>`. */
  address: string
  dataDir: string
  close(): Promise<void>
}

/** A fresh directory that is removed when the test ends. */
export async function scratchDirectory(t: Teardown): Promise<string> {
  const directory = join(SCRATCH, randomBytes(6).toString('hex'))
  await mkdir(directory, { recursive: true })
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

/**
 * A whole gateway in this process, listening on a free loopback port: the real codex binary, the scripted demo model,
 * embedded stores in a scratch directory. `variables` are environment variables over the test's defaults; `logger` is
 * for a test that reads the log.
 */
export async function startGateway(
  t: Teardown,
  variables: Record<string, string> = {},
  logger?: FastifyBaseLogger
): Promise<Gateway> {
  const dataDir = variables.DATA_DIR ?? (await scratchDirectory(t))
  const { CODEX_BIN, TEST_LOG_LEVEL = 'silent' } = process.env
  const codex = CODEX_BIN === undefined ? {} : { CODEX_BIN }
  const env = { PORT: '0', DATA_DIR: dataDir, LOG_LEVEL: TEST_LOG_LEVEL, ...codex, ...variables }
  const config = loadConfig({ ISOLATION: TEST_ISOLATION, ...env })
  const passedOn = { PATH: process.env.PATH, ...variables }
  const app = await buildApp(config, { env: passedOn, ...(logger === undefined ? {} : { logger }) })
  await app.listen({ host: config.host, port: config.port }).catch(async (error: Error) => {
    await app.close()
    throw error
  })
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= app.close().then(() => {})
    return closing
  }
  t.teardown(close)
  return { app, address: `127.0.0.1:${(app.server.address() as AddressInfo).port}`, dataDir, close }
}
