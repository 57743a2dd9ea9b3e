import { inflateRawSync } from 'node:zlib'

const DIRECTORY_ENTRY = 0x02014b50
const DIRECTORY_END = 0x06054b50
const DIRECTORY_END_BYTES = 22

/** The entries of a zip archive by name, read by its central directory. Throws for an archive that was cut off. */
export function unzip(archive: Buffer): Map<string, Buffer> {
  const end = archive.length - DIRECTORY_END_BYTES
  if (end < 0 || archive.readUInt32LE(end) !== DIRECTORY_END) throw new Error('the archive has no end')
  const entries = new Map<string, Buffer>()
  let at = archive.readUInt32LE(end + 16)
  for (let left = archive.readUInt16LE(end + 10); left > 0; left--) {
    if (archive.readUInt32LE(at) !== DIRECTORY_ENTRY) throw new Error(`no entry at ${at}`)
    const [nameBytes, extraBytes] = [archive.readUInt16LE(at + 28), archive.readUInt16LE(at + 30)]
    const name = archive.toString('utf8', at + 46, at + 46 + nameBytes)
    entries.set(name, content(archive, archive.readUInt32LE(at + 42), archive.readUInt32LE(at + 20)))
    at += 46 + nameBytes + extraBytes + archive.readUInt16LE(at + 32)
  }
  return entries
}

function content(archive: Buffer, at: number, bytes: number): Buffer {
  const start = at + 30 + archive.readUInt16LE(at + 26) + archive.readUInt16LE(at + 28)
  const stored = archive.subarray(start, start + bytes)
  return archive.readUInt16LE(at + 8) === 0 ? stored : inflateRawSync(stored)
}
