import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { freePort, listening, startPiped, stop } from './processes.ts'

export interface NativePrograms {
  relay: string
  sink: string
  codexStandIn: string
}

/** What a round of the sink's clients got, together. Latencies are those of paced deltas; 0 when there were none. */
export interface SinkReport {
  deltas: number
  bytes: number
  lost: number
  doubled: number
  gaps: number
  /** From the first delta that came to the last. */
  streamMs: number
  /** CPU of the sink itself. */
  cpuMs: number
  p50Us: number
  p99Us: number
}

export interface RelayRound extends SinkReport {
  /** CPU of the relay, from its first line to its last. */
  relayCpuMs: number
}

/** Compiles bench/native/ into a directory. Throws with what to do when there is no C compiler. */
export function compileNative(directory: string): NativePrograms {
  const compile = (name: string) => {
    const program = join(directory, name)
    const source = fileURLToPath(new URL(`../native/${name}.c`, import.meta.url))
    try {
      execFileSync('cc', ['-O2', '-o', program, source], { stdio: ['ignore', 'ignore', 'inherit'] })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new Error('this benchmark compares with C programs: it needs a C compiler on PATH as `cc` (gcc or clang)')
    }
    return program
  }
  return { relay: compile('relay'), sink: compile('sink'), codexStandIn: compile('codex-stand-in') }
}

export interface SinkOptions {
  port: number
  /** A %d becomes the client's number. */
  path: string
  clients: number
  /** So many of them, the last ones, read nothing until `release`. */
  held?: number
}

/** WebSocket clients in a process of their own that check what they get; see bench/native/sink.c. */
export class Sink {
  readonly #child: ReturnType<typeof startPiped>
  readonly #lines: AsyncIterator<string>

  private constructor(program: string, { port, path, clients, held = 0 }: SinkOptions) {
    this.#child = startPiped(program, [String(port), path, String(clients), String(held)])
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]()
  }

  /** Resolves when all are connected. */
  static async connect(programs: NativePrograms, options: SinkOptions): Promise<Sink> {
    const sink = new Sink(programs.sink, options)
    await sink.#next()
    return sink
  }

  get pid(): number {
    return this.#child.pid as number
  }

  /** The first client sends a message; resolves when every client that reads has seen a turn end. */
  run(message: object): Promise<SinkReport> {
    this.#child.stdin.write(`${JSON.stringify(message)}\n`)
    return this.report()
  }

  /** The held clients read again; resolves when they have seen a turn end. The report is of what came from now on. */
  release(): Promise<SinkReport> {
    this.#child.stdin.write('release\n')
    return this.report()
  }

  /** The end of the round that runs. */
  report(): Promise<SinkReport> {
    return this.#next() as Promise<SinkReport>
  }

  /** Closes all connections. */
  async close(): Promise<void> {
    await stop(this.#child)
  }

  async #next(): Promise<unknown> {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the sink ended before its round did')
    return JSON.parse(value)
  }
}

/** Sends `events` lines of the codex stand-in through the C relay to so many clients. */
export async function relayRound(programs: NativePrograms, events: number, clients: number): Promise<RelayRound> {
  const port = await freePort()
  const pipeline = '"$0" lines "$1" | "$2" "$3" "$4"'
  const { codexStandIn, relay } = programs
  const shell = startPiped('/bin/sh', [
    '-c',
    pipeline,
    codexStandIn,
    String(events),
    relay,
    String(port),
    String(clients)
  ])
  let output = ''
  shell.stdout.on('data', (chunk: Buffer) => (output += chunk))
  await listening(port)
  const sink = await Sink.connect(programs, { port, path: '/', clients })
  const report = await sink.report()
  if (shell.exitCode === null) await once(shell, 'close')
  await sink.close()
  return { ...report, relayCpuMs: (JSON.parse(output) as { cpuMs: number }).cpuMs }
}
