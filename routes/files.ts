import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { ref } from '../schemas/common.ts'
import {
  ArchiveQuerySchema,
  DownloadQuerySchema,
  FileEntrySchema,
  FileTreeSchema,
  ListFilesQuerySchema,
  MakeDirectoryBodySchema,
  RemoveFileQuerySchema,
  UploadQuerySchema
} from '../schemas/files.ts'
import { EmptySchema } from '../schemas/threads.ts'
import { fileErrors } from './responses.ts'

const tags = ['files']
const OCTETS = 'application/octet-stream'
const content = { [OCTETS]: { schema: Type.Unsafe<string>({ type: 'string', format: 'binary' }) } }

/** Files of the caller's workspace. */
const fileRoutes: FastifyPluginAsyncTypebox = async (fastify) => {
  const files = fastify.getDecorator<FastifyInstance['files']>('files')

  fastify.get(
    '/files',
    {
      schema: {
        operationId: 'listFiles',
        tags,
        summary: 'What is in a directory of the workspace',
        querystring: ListFilesQuerySchema,
        response: { 200: ref(FileTreeSchema), ...fileErrors }
      }
    },
    (request) => files.list(request, request.query)
  )

  fastify.get(
    '/files/content',
    {
      // A HEAD would read the file, to nowhere.
      exposeHeadRoute: false,
      schema: {
        operationId: 'downloadFile',
        tags,
        summary: 'Download a file; with ETag, If-None-Match and Range',
        querystring: DownloadQuerySchema,
        response: {
          200: { description: 'The file', content },
          206: { description: 'The range that was asked for', content },
          304: { description: 'As the client has it', type: 'null' },
          ...fileErrors
        }
      }
    },
    (request, reply) => files.download(request, reply, request.query.path) as never
  )

  fastify.get(
    '/files/archive',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'downloadArchive',
        tags,
        summary: 'Download a directory as a zip; links are left out',
        querystring: ArchiveQuerySchema,
        response: { 200: { description: 'The zip', content }, ...fileErrors }
      }
    },
    (request, reply) => files.archive(request, reply, request.query.path ?? '') as never
  )

  fastify.register(async function uploads(scope) {
    // The body is the file, whatever its type says, and is read as fast as it is written.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _body, done) => done(null))
    scope.addHook('onResponse', async (request) => files.endBody(request))
    scope.put(
      '/files/content',
      {
        schema: {
          operationId: 'uploadFile',
          tags,
          summary: 'Upload a file as the request’s body; whole or not at all, with If-Match and If-None-Match',
          consumes: [OCTETS],
          querystring: UploadQuerySchema,
          response: { 200: ref(FileEntrySchema), 201: ref(FileEntrySchema), ...fileErrors }
        }
      },
      (request, reply) => files.upload(request, reply, (request.query as { path: string }).path) as never
    )
  })

  fastify.delete(
    '/files',
    {
      schema: {
        operationId: 'removeFile',
        tags,
        summary: 'Remove a file, a link or a directory',
        querystring: RemoveFileQuerySchema,
        response: { 200: ref(EmptySchema), ...fileErrors }
      }
    },
    async (request) => {
      await files.remove(request, request.query.path, request.query.recursive ?? false)
      return {}
    }
  )

  fastify.post(
    '/files/directories',
    {
      schema: {
        operationId: 'makeDirectory',
        tags,
        summary: 'Make a directory, and those above it that are missing; content with one that is there',
        body: MakeDirectoryBodySchema,
        response: { 201: ref(EmptySchema), ...fileErrors }
      }
    },
    async (request, reply) => {
      await files.makeDirectory(request, request.body.path)
      return reply.code(201).send({})
    }
  )
}

export default fileRoutes
