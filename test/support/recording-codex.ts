import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { scratchDirectory, type Teardown } from './gateway.ts'
import { testedCodex } from './tested-codex.ts'

export interface RecordingCodex {
  /** For CODEX_BIN. */
  binary: string
  /** Every line that was written to any codex so far, in no order between processes. */
  lines(): Promise<string[]>
}

/** The pinned codex behind a tee: what it is told on its stdin is on record. */
export async function recordingCodex(t: Teardown): Promise<RecordingCodex> {
  const directory = await scratchDirectory(t)
  const binary = join(directory, 'codex')
  const codex = `'${testedCodex()}' "$@"`
  const script = [
    '#!/bin/sh',
    `case "$1" in app-server) tee '${directory}'/stdin.$$ | ${codex} ;; *) exec ${codex} ;; esac`
  ]
  await writeFile(binary, `${script.join('\n')}\n`, { mode: 0o755 })
  return {
    binary,
    async lines() {
      const files = (await readdir(directory)).filter((name) => name.startsWith('stdin.'))
      const texts = await Promise.all(files.map((name) => readFile(join(directory, name), 'utf8')))
      return texts.flatMap((text) => text.split('\n')).filter((line) => line !== '')
    }
  }
}
