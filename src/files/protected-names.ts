import { FileProtected, withDetails } from '../../errors.ts'
import type { Directory } from './directory.ts'

const INVALID_REQUEST = -32600

/** What codex keeps its agents from writing without an approval: settings that make programs run others. */
const PROTECTED = new Set(['.git', '.codex', '.agents'])

/** Throws FileProtected for a name that nothing may be written to. */
export function refuseProtected(directory: Directory, name: string): void {
  const names = [...directory.names, name]
  const protectedName = names.find((part) => PROTECTED.has(part.toLowerCase()))
  if (protectedName !== undefined) {
    throw withDetails(new FileProtected(names.join('/'), protectedName), { codexCode: INVALID_REQUEST })
  }
}
