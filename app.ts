import { readFileSync } from 'node:fs'
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { TSchema } from 'typebox'
import type { Config } from './config.ts'
import audit from './plugins/audit.ts'
import auth from './plugins/auth.ts'
import broker from './plugins/broker.ts'
import clients from './plugins/clients/index.ts'
import connections from './plugins/connections.ts'
import dataDirectory from './plugins/data-dir.ts'
import demoModel from './plugins/demo-model.ts'
import errors, { frameworkErrors } from './plugins/errors.ts'
import events from './plugins/events/index.ts'
import jwt from './plugins/external/jwt.ts'
import { createLogger } from './plugins/external/logger.ts'
import redis from './plugins/external/redis.ts'
import swagger from './plugins/external/swagger.ts'
import websocket from './plugins/external/websocket.ts'
import files from './plugins/files/index.ts'
import isolation from './plugins/isolation.ts'
import journal from './plugins/journal.ts'
import origin from './plugins/origin.ts'
import policy from './plugins/policy.ts'
import pool from './plugins/pool.ts'
import sessions from './plugins/sessions.ts'
import store from './plugins/store.ts'
import webhooks from './plugins/webhooks.ts'
import approvalRoutes from './routes/approvals.ts'
import auditRoutes from './routes/audit.ts'
import decideRoutes from './routes/decide.ts'
import eventRoutes from './routes/events.ts'
import fileRoutes from './routes/files.ts'
import healthRoutes from './routes/health.ts'
import nativeRoutes from './routes/native.ts'
import policyRoutes from './routes/policy.ts'
import sessionRuleRoutes from './routes/session-rules.ts'
import threadRoutes from './routes/threads.ts'
import ticketRoutes from './routes/tickets.ts'
import usageRoutes from './routes/usage.ts'
import wsRoutes from './routes/ws.ts'
import {
  ApprovalListSchema,
  ApprovalResolvedSchema,
  ApprovalSchema,
  SessionRuleListSchema,
  SessionRuleSchema
} from './schemas/approvals.ts'
import { AuditPageSchema, AuditRecordSchema, AuditReportSchema } from './schemas/audit.ts'
import { ApiErrorSchema } from './schemas/common.ts'
import { EventPageSchema } from './schemas/events.ts'
import { FileEntrySchema, FileTreeSchema } from './schemas/files.ts'
import { PolicyEvaluateResultSchema, PolicyViewSchema } from './schemas/policy.ts'
import { HealthSchema, ReadySchema, TicketSchema } from './schemas/service.ts'
import { EmptySchema, ThreadListSchema, ThreadSchema, TurnSchema } from './schemas/threads.ts'
import { UsageSchema } from './schemas/usage.ts'

const VERSION = readVersion()
const MAX_BODY_BYTES = 16 * 1024 * 1024
const REDIS_CONNECT_TIMEOUT_MS = 5_000
const MAX_START_MS = 20_000
/** As long as the longest id; the schemas say the rest. */
const MAX_PARAM_LENGTH = 1024
/** A model that codex's bundled catalogue knows, for the demo model, which has no name of its own. */
const DEMO_MODEL_NAME = 'gpt-5.5'
const OPENAI_BASE_URL = 'https://api.openai.com/v1'

const RESPONSE_SCHEMAS: readonly TSchema[] = [
  ApiErrorSchema,
  ApprovalSchema,
  ApprovalListSchema,
  ApprovalResolvedSchema,
  AuditRecordSchema,
  AuditPageSchema,
  AuditReportSchema,
  EmptySchema,
  EventPageSchema,
  FileEntrySchema,
  FileTreeSchema,
  HealthSchema,
  PolicyEvaluateResultSchema,
  PolicyViewSchema,
  ReadySchema,
  SessionRuleSchema,
  SessionRuleListSchema,
  ThreadSchema,
  ThreadListSchema,
  TicketSchema,
  TurnSchema,
  UsageSchema
]

export interface AppOptions {
  /** Where the allow-listed variables for codex come from. */
  env: Readonly<Record<string, string | undefined>>
  logger?: FastifyBaseLogger
}

/**
 * Builds the whole service without listening. The order below is also the order of shutdown, right to left: sessions
 * settle and close their clients first, the audit log and the store are closed last.
 */
export async function buildApp(config: Config, options: AppOptions): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: options.logger ?? (createLogger(config.logLevel) as FastifyBaseLogger),
    bodyLimit: MAX_BODY_BYTES,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    frameworkErrors
  })
  app.withTypeProvider<TypeBoxTypeProvider>().setValidatorCompiler(TypeBoxValidatorCompiler)
  for (const schema of RESPONSE_SCHEMAS) app.addSchema(schema)

  const { dataDir, workspaceRoot, auth: authConfig } = config
  const isDevelopment = authConfig.mode === 'development'

  app.register(dataDirectory, { dataDir })
  app.register(errors)
  // Before the origin check: an upgrade that the check refuses must be closed by the WebSocket plugin's own hook.
  app.register(websocket)
  app.register(origin, { allowedOrigins: allowedOrigins(config), isLoopbackOnly: isDevelopment })
  app.register(swagger, { version: VERSION })
  if (authConfig.mode === 'jwt') app.register(jwt, authConfig)
  app.register(auth, { mode: authConfig.mode, mayApprove: (actor, userId) => app.policy.mayApprove(actor, userId) })
  if (config.redisUrl !== undefined) {
    app.register(redis, { url: config.redisUrl, connectTimeoutMs: REDIS_CONNECT_TIMEOUT_MS })
  }
  app.register(store, { dataDir })
  app.register(journal, config.journal)
  app.register(audit, { dataDir, key: config.auditKey })
  app.register(isolation, {
    dataDir,
    workspaceRoot,
    codexBin: config.codexBin,
    isProduction: config.isProduction,
    gatewayEnv: options.env,
    ...config.isolation
  })
  app.register(policy, {
    file: config.policyFile,
    timeoutMs: config.approval.timeoutMs,
    maxMs: config.approval.maxMs,
    protectedRoots: [dataDir, workspaceRoot]
  })
  if (config.model.mode === 'demo') app.register(demoModel)
  app.register(broker, (parent: FastifyInstance) => ({
    upstream: config.model.mode === 'demo' ? parent.demoModel.baseUrl : (config.model.baseUrl ?? OPENAI_BASE_URL),
    apiKey: config.model.apiKey,
    timeoutMs: config.model.timeoutMs,
    limitsFile: config.limitsFile
  }))
  app.register(pool, (parent: FastifyInstance) => ({
    dataDir,
    workspaceRoot,
    clientVersion: VERSION,
    maxProcesses: config.maxProcesses,
    startTimeoutMs: Math.min(config.requestTimeoutMs, MAX_START_MS),
    gatewayEnv: options.env,
    provider: { baseUrl: parent.broker.baseUrl, requiresLogin: true },
    grantModel: (userId: string) => parent.broker.grant(userId),
    ...modelName(config)
  }))
  app.register(webhooks, { endpoint: config.webhook, publicUrl: config.publicUrl })
  app.register(sessions, {
    approvalMode: config.approval.mode,
    requestTimeoutMs: config.requestTimeoutMs,
    idleTimeoutMs: config.idleTimeoutMs,
    memoryReserveBytes: config.memoryReserveBytes
  })
  app.register(connections)
  app.register(clients, { heartbeatMs: config.heartbeatMs, stallTimeoutMs: config.clientStallTimeoutMs })
  app.register(events)
  app.register(files, { maxBytes: config.fileMaxBytes, stallTimeoutMs: config.clientStallTimeoutMs })

  app.register(healthRoutes, { version: VERSION })
  app.register(decideRoutes)
  app.register(nativeRoutes)
  app.register(async function protectedRoutes(scope) {
    scope.addHook('preValidation', scope.authenticate)
    scope.addHook('preHandler', scope.recordAccess)
    scope.register(wsRoutes)
    scope.register(
      async (api) => {
        for (const routes of [
          threadRoutes,
          eventRoutes,
          fileRoutes,
          approvalRoutes,
          sessionRuleRoutes,
          policyRoutes,
          auditRoutes,
          ticketRoutes,
          usageRoutes
        ])
          api.register(routes)
      },
      { prefix: '/api' }
    )
  })
  return ready(app)
}

async function ready(app: FastifyInstance): Promise<FastifyInstance> {
  try {
    await app.ready()
    return app
  } catch (error) {
    // What was opened before the failure: nobody else has a hold of it.
    await app.close()
    throw error
  }
}

/** A proxy may put its own name into Host; the page behind a webhook's link still posts from PUBLIC_URL. */
function allowedOrigins({ corsOrigins, publicUrl }: Config): string[] {
  return publicUrl === undefined ? corsOrigins : [...corsOrigins, new URL(publicUrl).origin]
}

function modelName({ model: { mode, name } }: Config): { model?: string } {
  const model = name ?? (mode === 'demo' ? DEMO_MODEL_NAME : undefined)
  return model === undefined ? {} : { model }
}

function readVersion(): string {
  // The build lies one directory deeper than the sources.
  for (const candidate of ['./package.json', '../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(candidate, import.meta.url), 'utf8')) as { version: string }).version
    } catch {}
  }
  return '0.0.0'
}
