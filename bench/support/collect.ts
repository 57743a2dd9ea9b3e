// Preloaded (--import) into a process whose memory is measured: garbage that nobody has collected yet is no cost of a
// connection. Answers every message of the benchmark with a collection, and with the bytes of live objects after it.
process.on('message', () => {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  process.send?.(heapUsed + external)
})
