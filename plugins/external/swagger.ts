import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'

export interface SwaggerOptions {
  version: string
}

/** The plugin's own policy names other hosts, and upgrades to https: over plain http the page would stay empty. */
const DOCS_CSP =
  "default-src 'self'; img-src 'self' data:; base-uri 'self'; object-src 'none'; frame-ancestors 'self'; script-src-attr 'none'"

/** OpenAPI 3.1 at /openapi.json and a page at /docs, made of the routes' own schemas. */
export default fp<SwaggerOptions>(
  async function swaggerPlugin(fastify, { version }) {
    await fastify.register(fastifySwagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Cloud Codex',
          version,
          description:
            'codex app-server, made safe for many people at once: threads, turns, approvals and their record.',
          license: { name: 'MIT', identifier: 'MIT' }
        },
        servers: [{ url: '/' }],
        tags: [
          { name: 'threads', description: 'Threads and turns of the caller' },
          { name: 'approvals', description: 'Questions of codex that wait for a decision' },
          { name: 'files', description: 'Files of the caller’s workspace' },
          { name: 'policy', description: 'What is decided without asking' },
          { name: 'audit', description: 'The record of decisions' },
          { name: 'service', description: 'Health and access' }
        ],
        components: {
          securitySchemes: {
            bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
            developmentUser: { type: 'apiKey', in: 'header', name: 'x-user-id' }
          }
        },
        security: [{ bearer: [] }, { developmentUser: [] }]
      },
      // Components keep the names of their schemas; the default is def-0, def-1, …
      refResolver: {
        buildLocalReference: (json, _baseUri, _fragment, i) => (json.$id as string | undefined) ?? `Schema${i}`
      }
    })
    await fastify.register(fastifySwaggerUi, { routePrefix: '/docs', staticCSP: DOCS_CSP })
    fastify.get('/openapi.json', { schema: { hide: true }, logLevel: 'warn' }, async () => fastify.swagger())
  },
  { name: 'swagger' }
)
