import { accessSync, closeSync, constants, openSync, readSync, realpathSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join, resolve } from 'node:path'
import { CodexBinaryMissing } from '../../errors.ts'

const TRIPLES: Record<string, string> = {
  'linux-x64': 'x86_64-unknown-linux-musl',
  'linux-arm64': 'aarch64-unknown-linux-musl',
  'darwin-x64': 'x86_64-apple-darwin',
  'darwin-arm64': 'aarch64-apple-darwin'
}

/**
 * Finds the native codex binary: `override` (CODEX_BIN: a path, or a name on `searchPath`), else the pinned dependency.
 * An npm launcher (a Node script, as a global `codex` is) is followed to the native binary beside it, because a
 * launcher between us and codex would outlive a SIGKILL. Throws CodexBinaryMissing with the place that was looked at.
 */
export function locateCodexBinary(override?: string, searchPath = ''): string {
  if (override === undefined || override === '') return nativeBinaryOf(import.meta.url)
  // Absolute: codex is started in the user's workspace, where a relative path means something else.
  const path = override.includes('/') ? resolve(override) : findOnPath(override, searchPath)
  if (!isExecutableFile(path)) throw new CodexBinaryMissing(path)
  return isNodeScript(path) ? nativeBinaryOf(realpathSync(path)) : path
}

function nativeBinaryOf(from: string): string {
  const platform = `${process.platform}-${process.arch}`
  const triple = TRIPLES[platform] ?? platform
  let packageFile: string
  try {
    packageFile = createRequire(from).resolve(`@openai/codex-${platform}/package.json`)
  } catch {
    throw new CodexBinaryMissing(`@openai/codex-${platform}`)
  }
  const binary = join(dirname(packageFile), 'vendor', triple, 'bin', 'codex')
  if (!isExecutableFile(binary)) throw new CodexBinaryMissing(binary)
  return binary
}

function findOnPath(name: string, searchPath: string): string {
  for (const directory of searchPath.split(delimiter)) {
    const candidate = join(directory, name)
    if (directory !== '' && isExecutableFile(candidate)) return candidate
  }
  return name
}

function isExecutableFile(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

function isNodeScript(path: string): boolean {
  const head = Buffer.alloc(64)
  const file = openSync(path, 'r')
  try {
    readSync(file, head)
  } finally {
    closeSync(file)
  }
  return /^#!.*\bnode\b/.test(head.toString('latin1'))
}
