import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { StoreUnavailable } from '../../errors.ts'

/** Offsets in a meta page of the LMDB that lmdb 3.5 carries (mdb.c: MDB_meta behind a page header of 24 bytes). */
const MAGIC_AT = 24
const PAGE_SIZE_AT = 48
const LAST_PAGE_AT = 144
const TRANSACTION_AT = 152
const META_BYTES = 160
const MAGIC = 0xbeefc0de

interface Meta {
  pageSizeBytes: number
  lastPage: bigint
  transaction: bigint
}

/**
 * Rejects with StoreUnavailable when `data.mdb` in `dir` is not an LMDB file or was cut short; a directory without
 * one is fine. LMDB maps the file unchecked: opening a damaged one ends the process by SIGSEGV or SIGBUS, and a
 * service that restarts would do so for ever without a word.
 */
export async function assertLmdbFile(dir: string): Promise<void> {
  const path = join(dir, 'data.mdb')
  const damage = await damageOf(path)
  if (damage !== undefined) {
    throw new StoreUnavailable(`${path} ${damage}; restore a backup, or move it away to start empty`)
  }
}

async function damageOf(path: string): Promise<string | undefined> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (file === undefined) return undefined
  try {
    const first = await readMeta(file, 0)
    const second = first && (await readMeta(file, first.pageSizeBytes))
    const { size } = await file.stat()
    if (size === 0) return undefined
    if (first === undefined || second === undefined) return 'is not an LMDB file'
    const newest = second.transaction > first.transaction ? second : first
    const neededBytes = (newest.lastPage + 1n) * BigInt(first.pageSizeBytes)
    return BigInt(size) < neededBytes ? `is cut short (${size} of at least ${neededBytes} bytes)` : undefined
  } finally {
    await file.close()
  }
}

async function readMeta(file: Awaited<ReturnType<typeof open>>, position: number): Promise<Meta | undefined> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(META_BYTES), 0, META_BYTES, position)
  if (bytesRead < META_BYTES || buffer.readUInt32LE(MAGIC_AT) !== MAGIC) return undefined
  return {
    pageSizeBytes: buffer.readUInt32LE(PAGE_SIZE_AT),
    lastPage: buffer.readBigUInt64LE(LAST_PAGE_AT),
    transaction: buffer.readBigUInt64LE(TRANSACTION_AT)
  }
}
