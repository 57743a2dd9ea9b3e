// Preloaded into a gateway (NODE_OPTIONS=--import): it dies by SIGKILL at the moment DIE_AT of the way that the first
// approval that is accepted takes from the decision to codex. Whatever the machine does meanwhile, the moment is the same.
import { open } from 'node:fs/promises'
import { Socket } from 'node:net'

const moment = process.env.DIE_AT
const handle = await open(new URL(import.meta.url), 'r')
const files = Object.getPrototypeOf(handle)
await handle.close()
const { write: writeFile, datasync } = files
const { write: writeSocket } = Socket.prototype
let recordFile

function dieIf(name) {
  if (moment === name) process.kill(process.pid, 'SIGKILL')
}

files.write = async function write(bytes, ...rest) {
  if (!Buffer.isBuffer(bytes) || !bytes.includes('"outcome":"accepted"')) return writeFile.call(this, bytes, ...rest)
  dieIf('before the write')
  if (moment === 'half written') await writeFile.call(this, bytes.subarray(0, bytes.length / 2))
  dieIf('half written')
  const result = await writeFile.call(this, bytes, ...rest)
  dieIf('written')
  recordFile = this
  return result
}

files.datasync = async function sync() {
  await datasync.call(this)
  if (this === recordFile) dieIf('durable')
}

// codex hears of a decision before any client does.
Socket.prototype.write = function write(bytes, ...rest) {
  const result = writeSocket.call(this, bytes, ...rest)
  if (recordFile !== undefined && Buffer.from(bytes).includes('"decision":"accept"')) dieIf('answered')
  return result
}
