import type { IncomingMessage } from 'node:http'
import { finished } from 'node:stream/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { FileRefused, MethodDenied, withDetails } from '../../errors.ts'
import type { FileEntry, FileTree, ListFilesQuery } from '../../schemas/files.ts'
import { findMethod, roleAtLeast } from '../../src/codex/methods.ts'
import { openArchive } from '../../src/files/archive.ts'
import { toFileError } from '../../src/files/file-errors.ts'
import { listTree } from '../../src/files/file-tree.ts'
import { OpenFile } from '../../src/files/open-file.ts'
import { upload } from '../../src/files/upload.ts'
import { UserRequests } from '../../src/files/user-requests.ts'
import type { WorkspaceRoot } from '../../src/files/walk.ts'
import { WorkspaceFiles } from '../../src/files/workspace-files.ts'
import { askedRange, checkExpected, isKnown } from './conditions.ts'

export interface FilesOptions {
  /** Of an upload. */
  maxBytes: number
  /** A client that takes or sends nothing for this long is cut off. */
  stallTimeoutMs: number
}

/**
 * The files of the workspace that a request is about, for HTTP. No codex process is started for them. Everything rejects
 * with coded errors: those of `fs/*`, MethodDenied for a role that is too low, TooManyInFlight.
 */
export interface Files {
  list(request: FastifyRequest, query: ListFilesQuery): Promise<FileTree>
  /** Answers with the file or a range of it; not with one that the client has. */
  download(request: FastifyRequest, reply: FastifyReply, path: string): Promise<FastifyReply>
  /** Takes the request's body as it comes, so nobody may have read it. 201 for a file that was not there. */
  upload(request: FastifyRequest, reply: FastifyReply, path: string): Promise<FileEntry>
  /** After the answer to an upload: ends the connection of a client that goes on sending what was refused. */
  endBody(request: FastifyRequest): void
  remove(request: FastifyRequest, path: string, recursive: boolean): Promise<void>
  makeDirectory(request: FastifyRequest, path: string): Promise<void>
  /** Answers with a directory as a zip. */
  archive(request: FastifyRequest, reply: FastifyReply, path: string): Promise<FastifyReply>
}

declare module 'fastify' {
  interface FastifyInstance {
    files: Files
  }
}

/** Of one user: each holds open files, for as long as its client takes. */
const MAX_AT_ONCE = 16
/** A client that goes on sending what was refused is cut off after so long. */
const LINGER_MS = 5_000

type Task<T> = (root: WorkspaceRoot, lasting: Promise<void>[]) => Promise<T>

/** Files of the users' workspaces for HTTP clients. */
export default fp<FilesOptions>(
  async function filesPlugin(fastify, { maxBytes, stallTimeoutMs }) {
    const { sessions } = fastify
    const requests = new UserRequests(MAX_AT_ONCE)

    /** `method`: the one of codex that does the like; who may call that may do this. */
    const run = async <T>({ identity: { userId, roles } }: FastifyRequest, method: string, task: Task<T>) => {
      requireRole(roles, method)
      const { directories, view } = await sessions.open(userId)
      const root = { hostPath: directories.workspace, viewPath: view.workspace }
      return requests
        .run(userId, (lasting) => task(root, lasting))
        .catch((error) => {
          throw toFileError(error, method)
        })
    }
    const bindStall = ({ socket }: FastifyRequest) => void socket.setTimeout(stallTimeoutMs)

    fastify.decorate('files', {
      list: (request, query) => run(request, 'fs/readDirectory', (root) => listTree(root, query)),
      download: (request, reply, path) =>
        run(request, 'fs/readFile', async (root, lasting) => {
          const file = await OpenFile.open(root, path)
          bindStall(request)
          return sendFile(request, reply, file, lasting)
        }),
      upload: (request, reply, path) =>
        run(request, 'fs/writeFile', async (root) => {
          bindStall(request)
          const announced = request.headers['content-length']
          const { entry, entityTag, isNew } = await upload(root, path, bodyOf(request.raw), {
            maxBytes,
            announcedBytes: announced === undefined ? undefined : Number(announced),
            check: (tag) => checkExpected(request.headers, tag)
          })
          reply.code(isNew ? 201 : 200).header('etag', entityTag)
          return entry
        }),
      endBody({ raw }) {
        if (raw.complete || raw.destroyed) return
        const cut = setTimeout(() => raw.socket.destroy(), LINGER_MS)
        raw.once('close', () => clearTimeout(cut))
      },
      remove: (request, path, recursive) =>
        run(request, 'fs/remove', async (root) => void (await new WorkspaceFiles(root).remove(path, recursive, false))),
      makeDirectory: (request, path) =>
        run(request, 'fs/createDirectory', async (root) => void (await new WorkspaceFiles(root).createDirectory(path))),
      archive: (request, reply, path) =>
        run(request, 'fs/readFile', async (root, lasting) => {
          const { name, stream, closed } = await openArchive(root, path)
          lasting.push(closed)
          bindStall(request)
          harmless(reply, `${name || 'workspace'}.zip`)
          return reply.send(stream)
        })
    })
    // What a closing server cuts off has its drafts to remove.
    fastify.addHook('onClose', () => requests.ended())
  },
  { name: 'files', dependencies: ['auth', 'sessions'] }
)

function requireRole(roles: FastifyRequest['identity']['roles'], method: string): void {
  const row = findMethod(method)
  if (row === undefined || row.action === 'deny' || !roleAtLeast(roles, row.role)) {
    throw withDetails(new MethodDenied(method, roles.join(', ')), { method })
  }
}

async function sendFile(
  { headers }: FastifyRequest,
  reply: FastifyReply,
  file: OpenFile,
  lasting: Promise<void>[]
): Promise<FastifyReply> {
  const { bytes, entityTag } = file
  reply.headers({ etag: entityTag, 'last-modified': file.modifiedAt.toUTCString(), 'accept-ranges': 'bytes' })
  try {
    if (isKnown(headers, entityTag)) {
      await file.close()
      return reply.code(304).send()
    }
    const range = askedRange(headers, bytes, entityTag)
    const { start, end } = range ?? { start: 0, end: bytes }
    if (range) reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${bytes}`)
    harmless(reply, file.name)
    const stream = file.stream(start, end)
    lasting.push(finished(stream).catch(() => {}))
    return reply.header('content-length', end - start).send(stream)
  } catch (error) {
    await file.close()
    reply.header('content-range', `bytes */${bytes}`)
    throw error
  }
}

/** Whatever is in it, no browser may show it as a page of this origin. */
function harmless(reply: FastifyReply, fileName: string): void {
  const encoded = encodeURIComponent(fileName).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16)}`)
  reply.headers({
    'content-type': 'application/octet-stream',
    'content-disposition': `attachment; filename*=UTF-8''${encoded}`,
    'x-content-type-options': 'nosniff',
    'cache-control': 'private, no-cache'
  })
}

/** Left open when it is not read to its end: its socket has the refusal to carry yet. */
async function* bodyOf(body: IncomingMessage): AsyncGenerator<Buffer, void, void> {
  try {
    yield* body.iterator({ destroyOnReturn: false })
  } catch {
    throw new FileRefused('The upload ended before all of it had come; nothing was written')
  }
}
