import { writeSync } from 'node:fs'
import { SegmentJournalStore } from '../../src/stores/segment-journal-store.ts'
import { runOf } from './journal-runs.ts'

// A gateway reduced to its journal store. Every line on stdout is what a resolved append promised.
const [dir = '', user = '', appends = 'endless'] = process.argv.slice(2)
const BOUNDS = { maxEvents: 2_000, maxBytes: 400_000, maxAgeMs: 3_600_000 }

// Without a listener the signal ends the process before a write beyond the limit can fail.
process.on('SIGXFSZ', () => {})
const store = await SegmentJournalStore.open(dir)
const stored = await store.load(user)
let lastSeq = stored?.lastSeq ?? 0
await store.putHead(user, { epoch: 'e1', lineage: [], isOpen: true, lastSeq })
for (let count = 0; appends === 'endless' || count < Number(appends); count++) {
  const runs = [runOf(lastSeq + 1, lastSeq + 1 + ((lastSeq * 7) % 90)), runOf(lastSeq + 91, lastSeq + 100)]
  try {
    await store.append(user, runs, appends === 'endless' ? BOUNDS : { ...BOUNDS, maxEvents: 1e9, maxBytes: 1e9 })
    lastSeq += 100
    writeSync(1, `stored ${lastSeq}\n`)
  } catch (error) {
    writeSync(1, `refused ${(error as { code: string }).code}\n`)
  }
}
await store.close()
