import { PROCESS_MARK } from '../isolation/process-tree.ts'
import type { UserDirectories } from '../isolation/user-directories.ts'

/** The only variables of the gateway that a codex process may see: none of them can hold a secret. */
const PASSED_ON = ['LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'SSL_CERT_FILE', 'SSL_CERT_DIR'] as const

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export interface CodexEnvironmentOptions {
  directories: Pick<UserDirectories, 'codexHome' | 'home'>
  /** Identifies the process and everything it starts (see isolation/process-tree.ts). */
  mark: string
  /** A directory that comes first on codex's own PATH (not on that of the commands it runs). */
  shimDirectory: string
  gatewayEnv: Readonly<Record<string, string | undefined>>
}

/** The whole environment of a codex process: an allow-list, so a new secret of the gateway never leaks by default. */
export function codexEnvironment(options: CodexEnvironmentOptions): Record<string, string> {
  const { directories, gatewayEnv } = options
  const env: Record<string, string> = {
    PATH: `${options.shimDirectory}:${gatewayEnv.PATH ?? DEFAULT_PATH}`,
    HOME: directories.home,
    CODEX_HOME: directories.codexHome,
    [PROCESS_MARK]: options.mark,
    // Without a ChatGPT login the remote-control task reloads auth every second and writes rows to disk for nothing.
    CODEX_INTERNAL_APP_SERVER_REMOTE_CONTROL_DISABLED: '1',
    TOKIO_WORKER_THREADS: '2',
    RUST_LOG: 'error'
  }
  for (const name of PASSED_ON) {
    const value = gatewayEnv[name]
    if (value !== undefined) env[name] = value
  }
  return env
}
