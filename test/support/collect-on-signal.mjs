// Preloaded into a process whose memory is watched: at SIGWINCH (which nobody else here listens to) it collects all garbage and says what is left, in a line.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')
let count = 0

process.on('SIGWINCH', () => {
  collect()
  const { heapUsed, external } = process.memoryUsage()
  process.stderr.write(`live objects ${++count}: ${heapUsed + external} bytes\n`)
})
