import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { locateCodexBinary } from '../../src/codex/binary.ts'
import { writeCodexConfig } from '../../src/codex/config-file.ts'
import { codexEnvironment } from '../../src/codex/environment.ts'
import { prepareShims } from '../../src/codex/shims.ts'
import { MODEL } from './gateway.ts'
import { freePort, listening, startProgram } from './processes.ts'

const PATH = process.env.PATH ?? ''

export interface BenchListener {
  pid: number
  /** `ws://127.0.0.1:<port>`. */
  url: string
  workspace: string
}

/** The gateway's codex binary with the profile that the gateway gives its processes, on codex's own listener. */
export async function startListener(root: string, baseUrl: string): Promise<BenchListener> {
  const base = join(root, 'direct')
  const directories = { codexHome: join(base, 'codex'), home: join(base, 'home'), workspace: join(base, 'workspace') }
  for (const directory of Object.values(directories)) mkdirSync(directory, { recursive: true, mode: 0o700 })
  await writeCodexConfig(directories.codexHome, {
    provider: { baseUrl, requiresLogin: false },
    model: MODEL,
    workspace: directories.workspace,
    mark: 'bench',
    commandPath: PATH
  })
  const binary = locateCodexBinary()
  const shimDirectory = await prepareShims(base, binary)
  const env = codexEnvironment({ directories, mark: 'bench', shimDirectory, gatewayEnv: { PATH } })
  const port = await freePort()
  const url = `ws://127.0.0.1:${port}`
  const codex = startProgram(binary, ['app-server', '--listen', url], { cwd: directories.workspace, env })
  await listening(port)
  return { pid: codex.pid as number, url, workspace: directories.workspace }
}
