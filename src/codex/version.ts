import { type ExecFileException, execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { CodexBinaryUnusable } from '../../errors.ts'

/** The one codex version that the method table, the classifier and the home writer were tested against. */
export const TESTED_CODEX_VERSION = '0.169.0'

/** Less than the boot's own limit per plugin (10 s), whose error would name no cause. */
const VERSION_TIMEOUT_MS = 5_000

/** Asks a codex binary for its version (`codex-cli 0.169.0` → `0.169.0`). Rejects with CodexBinaryUnusable. */
export async function readCodexVersion(binary: string): Promise<string> {
  const options = { timeout: VERSION_TIMEOUT_MS, killSignal: 'SIGKILL', env: {} } as const
  const { stdout } = await promisify(execFile)(binary, ['--version'], options).catch((error: ExecFileException) => {
    const reason = error.killed ? `no answer within ${VERSION_TIMEOUT_MS} ms` : `code ${error.code ?? error.signal}`
    throw new CodexBinaryUnusable(binary, reason)
  })
  return /(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1] ?? stdout.trim()
}
