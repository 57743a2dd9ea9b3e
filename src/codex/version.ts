import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** The one codex version that the method table, the classifier and the home writer were tested against. */
export const TESTED_CODEX_VERSION = '0.169.0'

const VERSION_TIMEOUT_MS = 10_000

/** Asks a codex binary for its version (`codex-cli 0.169.0` → `0.169.0`). Rejects when it does not answer in 10 s. */
export async function readCodexVersion(binary: string): Promise<string> {
  const { stdout } = await promisify(execFile)(binary, ['--version'], { timeout: VERSION_TIMEOUT_MS, env: {} })
  return /(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1] ?? stdout.trim()
}
