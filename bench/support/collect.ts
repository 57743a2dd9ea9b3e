// Preloaded (--import) into a process whose memory is measured: garbage that nobody has collected yet is no cost of a
// connection. Answers every message of the benchmark with a collection.
process.on('message', () => {
  globalThis.gc?.()
  process.send?.('collected')
})
