import { locateCodexBinary } from '../../src/codex/binary.ts'

/** The codex binary that tests run: the pinned one, or CODEX_BIN, by which scripts/drift.ts tries another version. */
export function testedCodex(): string {
  return locateCodexBinary(process.env.CODEX_BIN)
}
