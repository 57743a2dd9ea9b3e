import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { scratchDirectory, type Teardown } from './gateway.ts'
import { testedCodex } from './tested-codex.ts'

/**
 * A path for CODEX_BIN: the pinned codex with these settings over its config.toml (values in TOML), for what the
 * gateway's own configuration leaves off.
 */
export async function codexWith(t: Teardown, settings: Readonly<Record<string, string>>): Promise<string> {
  const script = join(await scratchDirectory(t), 'codex')
  const options = Object.entries(settings).map(([key, value]) => `-c ${quote(`${key}=${value}`)}`)
  const command = [quote(testedCodex()), ...options, '"$@"'].join(' ')
  await writeFile(script, `#!/bin/sh\nexec ${command}\n`, { mode: 0o755 })
  return script
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
