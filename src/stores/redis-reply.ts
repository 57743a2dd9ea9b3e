import { StoreUnavailable } from '../../errors.ts'

/** The reply, or StoreUnavailable with the error's text. */
export async function replyOf<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply
  } catch (error) {
    // ioredis hangs the command and its arguments on the error, a password among them: only the text goes on.
    throw new StoreUnavailable(`Redis: ${error instanceof Error ? error.message : String(error)}`)
  }
}
