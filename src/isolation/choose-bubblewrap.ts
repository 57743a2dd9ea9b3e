import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { BubblewrapLauncher, type BubblewrapOptions } from './bubblewrap-launcher.ts'
import type { Launcher } from './launcher.ts'
import { findBreaches } from './preflight.ts'

export interface ChoiceOptions extends Omit<BubblewrapOptions, 'program'> {
  gatewayEnv: Readonly<Record<string, string | undefined>>
}

export type Choice = { launcher: Launcher; problem?: never } | { launcher?: never; problem: string }

/**
 * The first bubblewrap that keeps users apart on this host: the one that comes with codex, then the system's. `problem`
 * says why there is none, in words for a person.
 */
export async function chooseBubblewrap({ gatewayEnv, ...options }: ChoiceOptions): Promise<Choice> {
  if (process.platform !== 'linux') return { problem: 'bubblewrap needs Linux' }
  // The machine's certificates may lie elsewhere; codex gets these variables, so it must find what they name.
  const certificates = [gatewayEnv.SSL_CERT_FILE, gatewayEnv.SSL_CERT_DIR].filter((path) => path?.startsWith('/'))
  const readablePaths = [...options.readablePaths, ...(certificates as string[])]
  const problems: string[] = []
  for (const program of candidates(options.binary, gatewayEnv.PATH)) {
    const launcher = await BubblewrapLauncher.open({ ...options, readablePaths, program })
    const breaches = await findBreaches(launcher, options)
    if (breaches.length === 0) return { launcher }
    problems.push(`${program}: ${breaches.join('; ')}`)
  }
  return { problem: problems.join(' | ') || 'there is no bubblewrap (apt-get install bubblewrap)' }
}

function candidates(binary: string, searchPath = ''): string[] {
  const bundled = join(dirname(dirname(binary)), 'codex-resources', 'bwrap')
  const onPath = searchPath.split(delimiter).map((directory) => join(directory, 'bwrap'))
  const [installed] = onPath.filter(isExecutable)
  return [...(isExecutable(bundled) ? [bundled] : []), ...(installed === undefined ? [] : [installed])]
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return path.startsWith('/')
  } catch {
    return false
  }
}
