// Exits 0 when the gateway of this container answers /health: the image has no curl.
const url = `http://127.0.0.1:${process.env.PORT || 3000}/health`
const response = await fetch(url, { signal: AbortSignal.timeout(4_000) }).catch((error) => {
  console.error(`${url}: ${error.cause?.message ?? error.message}`)
})
await response?.body?.cancel()
process.exitCode = response?.ok ? 0 : 1
