import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { JournalWriter } from '../src/journal/journal-writer.ts'
import { SessionJournal } from '../src/journal/session-journal.ts'
import type { JournalStore, StoredJournal } from '../src/stores/journal-store.ts'
import { RedisJournalStore } from '../src/stores/redis-journal-store.ts'
import { SegmentJournalStore } from '../src/stores/segment-journal-store.ts'
import { describeMachine, judge, spread } from './support/figures.ts'
import { cpuMs, scratchDirectory } from './support/processes.ts'
import { startRedis } from './support/redis.ts'

const ROUNDS = Number(process.env.ROUNDS ?? 7)
const EVENTS = Number(process.env.EVENTS ?? 400_000)
const GOAL = 1.5
const CHUNK_BYTES = 64 * 1024
/** What a flood appends between two writes of the journal. */
const EVENTS_BETWEEN_WRITES = 20_000
/** At a pace: so many users, each with so many events between two writes. */
const PACED_USERS = 20
const PACED_EVENTS_BETWEEN_WRITES = 20
const PACED_EVENTS = EVENTS / 8
/** The defaults of JOURNAL_MAX_… */
const BOUNDS = { maxEvents: 100_000, maxBytes: 32 * 1024 * 1024, maxAgeMs: 86_400_000 }
const LINE = Buffer.from(
  '{"method":"item/agentMessage/delta","params":{"threadId":"01a20200-22ec-74b0-b8c1-16a53caecca5","turnId":"01a20200-' +
    '3333-74b0-b8c1-16a53caecca5","itemId":"msg_1","delta":"tok000000 "},"emittedAtMs":1795329410853}'
)

describeMachine()
const root = scratchDirectory()

/** Takes everything and keeps nothing: what the journal costs without its store. */
class NoStore implements JournalStore {
  readonly name = 'segments'
  async load(): Promise<StoredJournal | undefined> {
    return undefined
  }
  async putHead(): Promise<void> {}
  async append(): Promise<void> {}
  async read(): Promise<never[]> {
    return []
  }
  async expire(): Promise<void> {}
  async delete(): Promise<void> {}
  async close(): Promise<void> {}
}

interface Cost {
  micros: number
  serverMicros: number
  eventsPerSecond: number
}

/** CPU per event of this process, all threads, and of the store's server if it has one. */
async function measure(events: number, work: () => Promise<void> | void, serverPid?: number): Promise<Cost> {
  const serverMs = () => (serverPid === undefined ? 0 : cpuMs(serverPid))
  const serverBeforeMs = serverMs()
  const startMs = performance.now()
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return {
    micros: (user + system) / events,
    serverMicros: ((serverMs() - serverBeforeMs) * 1000) / events,
    eventsPerSecond: events / ((performance.now() - startMs) / 1000)
  }
}

/** The anchor: the lines of the events, a chunk at a time, to a file. */
function writeChunks(events: number): void {
  const file = openSync(join(root, 'chunks'), 'a')
  const chunk = Buffer.alloc(CHUNK_BYTES, LINE)
  for (let left = events * (LINE.length + 1); left > 0; left -= CHUNK_BYTES) {
    writeSync(file, chunk, 0, Math.min(left, CHUNK_BYTES))
  }
  closeSync(file)
}

async function journals(writer: JournalWriter, users: number): Promise<SessionJournal[]> {
  const options = { writer, onPressure() {} }
  const open = await Promise.all(
    Array.from({ length: users }, (_, n) => SessionJournal.open({ ...options, userId: `bench-${users}-${n}` }))
  )
  // As in a session whose clients keep up: blocks are used again.
  for (const journal of open) journal.watchClients(() => true)
  return open
}

/** Appends to each journal in turn, and has them written after so many events each. */
async function append(open: readonly SessionJournal[], events: number, between: number): Promise<void> {
  for (let done = 0; done < events; done += between * open.length) {
    for (const journal of open) {
      for (let n = 0; n < between; n++) journal.append('event', LINE, 0, LINE.length)
      journal.takeNew()
    }
    await Promise.all(open.map((journal) => journal.persist()))
  }
}

interface Side {
  name: string
  serverPid?: number
  flooded: SessionJournal[]
  paced: SessionJournal[]
}

async function side(name: string, store: JournalStore, serverPid?: number): Promise<Side> {
  const writer = new JournalWriter({ store, bounds: BOUNDS, onHealth() {}, onDamaged() {} })
  const [flooded, paced] = [await journals(writer, 1), await journals(writer, PACED_USERS)]
  return { name, flooded, paced, ...(serverPid === undefined ? {} : { serverPid }) }
}

mkdirSync(join(root, 'redis'))
const redis = await startRedis(join(root, 'redis'))
const none = await side('no store', new NoStore())
const stores = [await side('segments', await SegmentJournalStore.open(join(root, 'segments')))]
if (redis) stores.push(await side('redis', new RedisJournalStore(redis.connect()), redis.pid))
else console.log('redis: left out, there is no redis-server here')

type Round = Record<string, { flood: Cost; pace: Cost }> & { anchor: { flood: Cost; pace: Cost } }

async function measureRound(): Promise<Round> {
  const anchor = await measure(EVENTS, () => writeChunks(EVENTS))
  const round: Round = { anchor: { flood: anchor, pace: anchor } }
  for (const { name, flooded, paced, serverPid } of [none, ...stores]) {
    const flood = await measure(EVENTS, () => append(flooded, EVENTS, EVENTS_BETWEEN_WRITES), serverPid)
    const pace = await measure(PACED_EVENTS, () => append(paced, PACED_EVENTS, PACED_EVENTS_BETWEEN_WRITES), serverPid)
    round[name] = { flood, pace }
  }
  return round
}

const rounds: Round[] = []
for (let n = 0; n <= ROUNDS; n++) {
  const round = await measureRound()
  // The first round warms up, and fills the journals to their bounds.
  if (n > 0) rounds.push(round)
}

const anchors = rounds.map(({ anchor }) => anchor.flood.micros)
console.log(`writeSync of ${CHUNK_BYTES / 1024} KiB chunks: ${spread(anchors, 3)} µs of CPU per event`)
/** What the store adds to the journal's own cost. */
const added = (round: Round, name: string, load: 'flood' | 'pace') =>
  (round[name]?.[load].micros ?? Number.NaN) - (round[none.name]?.[load].micros ?? Number.NaN)
for (const { name } of [none, ...stores]) {
  for (const load of ['flood', 'pace'] as const) {
    const of = (field: keyof Cost) => rounds.map((round) => round[name]?.[load][field] ?? Number.NaN)
    const what = load === 'flood' ? 'flood' : `${PACED_USERS} users, ${PACED_EVENTS_BETWEEN_WRITES} events a write`
    console.log(
      `${name}, ${what}: ${spread(of('micros'), 3)} µs of CPU per event (server ${spread(of('serverMicros'), 3)}), ` +
        `store alone ${spread(
          rounds.map((round) => added(round, name, load)),
          3
        )}, ` +
        `${spread(of('eventsPerSecond').map((rate) => rate / 1000))} thousand events/s`
    )
  }
}
for (const { name } of stores) {
  judge(
    `durable journal in a flood, ${name}: CPU per event that the store adds / writeSync`,
    rounds.map((round) => added(round, name, 'flood') / round.anchor.flood.micros),
    { atMost: GOAL }
  )
}
process.exit()
