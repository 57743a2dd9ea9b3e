import { writeSync } from 'node:fs'
import { AuditLog } from '../../src/audit/audit-log.ts'
import { approval, KEY } from './fixtures.ts'

// A gateway reduced to its audit log. Every line on stdout is an acknowledgement that the parent may hold against it.
const [dir = '', mode = '', tag = ''] = process.argv.slice(2)
const say = (line: string) => writeSync(1, `${line}\n`)

/** Appends without end, sixteen in flight, until it is killed. */
async function appendForever(): Promise<void> {
  const log = await AuditLog.open(dir, { key: KEY, checkpointEvery: 50, segmentBytes: 200_000 })
  say('open')
  const worker = async (name: number) => {
    for (let n = 0; ; n++) {
      const id = `${tag}-${name}-${n}`
      const { seq } = await log.append(approval(id))
      say(`${seq} ${id}`)
    }
  }
  await Promise.all(Array.from({ length: 16 }, (_, name) => worker(name)))
}

/** Appends 900 records, four in flight, on a disk that ends somewhere, and says which were taken. */
async function appendToLimit(): Promise<void> {
  // Without a listener the signal ends the process before the write can fail.
  process.on('SIGXFSZ', () => {})
  const log = await AuditLog.open(dir, { key: KEY, retryDelayMs: 0 })
  for (let n = 0; n < 900; n += 4) {
    const ids = [n, n + 1, n + 2, n + 3].map((id) => `${tag}-${id}`)
    const results = await Promise.allSettled(ids.map((id) => log.append(approval(id))))
    for (const [index, result] of results.entries()) {
      const id = ids[index]
      if (result.status === 'fulfilled') say(`${result.value.seq} ${id}`)
      else say(`refused ${id} ${result.reason.code}`)
    }
  }
  await log.close()
}

/** Takes the lock and keeps it until killed, or says why not. */
async function hold(): Promise<void> {
  try {
    await AuditLog.open(dir)
    say('held')
    setInterval(() => {}, 60_000)
  } catch (err) {
    say((err as { code: string }).code)
  }
}

const modes: Record<string, () => Promise<void>> = { appendForever, appendToLimit, hold }
await modes[mode]?.()
