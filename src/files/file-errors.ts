import { FileNotFound, FileRefused, FileTooLarge, OutsideWorkspace, withDetails } from '../../errors.ts'

const INVALID_REQUEST = -32600
const INTERNAL = -32603

/** The system's errors that a client can cause, in codex's words (those of its C library, musl). */
const SYSTEM_ERRORS: Record<string, string> = {
  EPERM: 'Operation not permitted (os error 1)',
  ENOENT: 'No such file or directory (os error 2)',
  ENXIO: 'No such device or address (os error 6)',
  EACCES: 'Permission denied (os error 13)',
  EEXIST: 'File exists (os error 17)',
  ENOTDIR: 'Not a directory (os error 20)',
  EISDIR: 'Is a directory (os error 21)',
  EINVAL: 'Invalid argument (os error 22)',
  ENOSPC: 'No space left on device (os error 28)',
  EROFS: 'Read-only file system (os error 30)',
  ENAMETOOLONG: 'Filename too long (os error 36)',
  ENOTEMPTY: 'Directory not empty (os error 39)',
  ELOOP: 'Symbolic link loop (os error 40)',
  EDQUOT: 'Quota exceeded (os error 122)'
}

/** An error of the system as it would have come from a call: to be told like one. */
export function systemError(code: keyof typeof SYSTEM_ERRORS & string): Error {
  return Object.assign(new Error(SYSTEM_ERRORS[code]), { code })
}

/** A request that codex refuses without touching a file, in its own words. */
export function refusal(message: string): Error {
  return withDetails(new FileRefused(message), { codexCode: INVALID_REQUEST })
}

export function tooLarge(message: string): Error {
  return withDetails(new FileTooLarge(message), { codexCode: INVALID_REQUEST })
}

/** What a client is told: system errors as coded ones in codex's words, with codex's own code in `details.codexCode`. */
export function toFileError(error: unknown, method: string): Error {
  const { code, details } = error as { code?: unknown; details?: Record<string, unknown> }
  const message = typeof code === 'string' && Object.hasOwn(SYSTEM_ERRORS, code) ? SYSTEM_ERRORS[code] : undefined
  if (message !== undefined) {
    const Coded = code === 'ENOENT' ? FileNotFound : FileRefused
    return withDetails(new Coded(message), { method, codexCode: INTERNAL })
  }
  return details === undefined && !(error instanceof OutsideWorkspace)
    ? (error as Error)
    : withDetails(error as Error, { method, ...details })
}
