import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, readdir, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import { scratchDirectory } from './gateway.ts'
import { TestClient } from './ws-client.ts'

/** The first `npm start` compiles everything, beside other tests that do the same. */
const PATIENCE_MS = 120_000
const NOT_COPIED = new Set(['node_modules', 'dist', '.git', '.tap', '.cloud-codex', 'coverage'])

/** What the test puts in the place of things that it does not have. */
export const STAND_INS: ReadonlyMap<string, string> = new Map([
  // A real key would make it call the real model; without one it is the same start in demo mode.
  ['OPENAI_API_KEY=sk-… ', ''],
  // The copy has its dependencies already; installing them is what happened before this test.
  ['npm install && npm start', 'npm start']
])

/** A person with a fresh copy, a terminal for the gateway and one for everything else. */
export class Tour {
  readonly #t: Test
  readonly #directory: string
  readonly #port: number
  readonly #shell: Terminal
  #gateway: Terminal | undefined
  #startCommand = ''

  private constructor(t: Test, directory: string, port: number) {
    this.#t = t
    this.#directory = directory
    this.#port = port
    this.#shell = this.#open('bash --norc --noprofile')
  }

  static async start(t: Test): Promise<Tour> {
    const directory = await scratchDirectory(t)
    for (const name of await readdir('.')) {
      if (!NOT_COPIED.has(name)) await cp(name, join(directory, name), { recursive: true })
    }
    await symlink(resolve('node_modules'), join(directory, 'node_modules'))
    return new Tour(t, directory, await freePort())
  }

  /** Runs a block of commands and compares what it prints with what the README shows. */
  async run(block: string, shown: string): Promise<void> {
    const lines = this.#localise(block).split('\n')
    const last = lines.at(-1) ?? ''
    if (last.endsWith('npm start')) {
      await this.#print(lines.slice(0, -1).join('\n'), '')
      await this.#startGateway(last)
    } else if (last.includes('examples/client.ts')) {
      await this.#print(lines.slice(0, -1).join('\n'), '')
      await this.talk(last, shown)
    } else await this.#print(block, shown)
  }

  /** Runs the client and holds the conversation of a transcript: `> ` lines are typed, the others have to come. */
  async talk(command: string, transcript: string): Promise<void> {
    const client = await this.#openWithVariables(command)
    for (const part of transcript.split(/^# (?=stop the gateway, start it again$)/m)) {
      const lines = part.split('\n')
      if (lines[0] === 'stop the gateway, start it again') {
        lines.shift()
        await this.#startGateway(this.#startCommand)
      }
      for (const line of lines) if (line.startsWith('> ')) client.type(line.slice(2))
      await client.waitFor(lines.join('\n').trimEnd())
    }
    client.endInput()
    this.#t.equal(await client.exitCode, 0, `${command}: leaves with the end of input`)
  }

  /** Holds a conversation of raw messages: → is sent, ← has to come. Names in capitals are taken from what came. */
  async exchange(text: string): Promise<void> {
    const client = await TestClient.connect(this.#t, `ws://localhost:${this.#port}/ws?userId=user-123`)
    const known = new Map<string, string>()
    const fill = (line: string) => line.replace(/THREAD_ID|APPROVAL_ID/g, (name) => known.get(name) ?? name)
    let lastPlace = -1
    for (const line of text.split('\n')) {
      const message = fill(line.slice(2))
      if (line.startsWith('→')) {
        client.send(message)
        continue
      }
      const pattern = new RegExp(`^${patternOf(message).replace(/THREAD_ID|APPROVAL_ID/, '(?<id>[\\w-]+)')}$`)
      const matches = (received: unknown) => pattern.exec(JSON.stringify(received))
      const found = await client.waitForMessage((received) => matches(received) !== null, line)
      const place = client.received.indexOf(found)
      this.#t.ok(place > lastPlace, line)
      lastPlace = place
      const name = /THREAD_ID|APPROVAL_ID/.exec(message)?.[0]
      if (name !== undefined) known.set(name, matches(found)?.groups?.id as string)
    }
    await client.close()
  }

  async #startGateway(command: string): Promise<void> {
    await this.#gateway?.interrupt()
    this.#startCommand = command
    this.#gateway = await this.#openWithVariables(command)
    await this.#gateway.waitFor(`…Server listening at http://127.0.0.1:${this.#port}`)
  }

  async #print(block: string, shown: string): Promise<void> {
    if (block === '') return
    this.#shell.type(`${this.#localise(block)}\nprintf '%s\\n' --end--`)
    const printed = await this.#shell.waitFor('…--end--\n')
    const expected = new RegExp(`^${patternOf(shown === '' ? '' : `${shown}\n`)}--end--\n$`)
    this.#t.match(printed, expected, block)
  }

  #localise(command: string): string {
    const local = [...STAND_INS].reduce((text, [from, to]) => text.replace(from, to), command)
    return local.replaceAll('localhost:3000', `localhost:${this.#port}`)
  }

  /** In another terminal, with what a person would carry over to it. */
  async #openWithVariables(command: string): Promise<Terminal> {
    await this.#print('declare -p JWT_SECRET TOKEN > variables.sh 2> /dev/null', '')
    return this.#open(`source ./variables.sh; ${this.#localise(command)}`)
  }

  #open(command: string): Terminal {
    const { PATH, HOME } = process.env
    const env = { PATH, HOME, PORT: String(this.#port), CLOUD_CODEX_URL: `ws://localhost:${this.#port}/ws` }
    return new Terminal(this.#t, command, this.#directory, env)
  }
}

/** A command that runs in a process group of its own, as in a terminal of its own. */
class Terminal {
  readonly exitCode: Promise<number | null>
  readonly #t: Test
  readonly #command: string
  readonly #child: ChildProcessWithoutNullStreams
  #output = ''
  #errors = ''

  constructor(t: Test, command: string, cwd: string, env: Record<string, string | undefined>) {
    this.#t = t
    this.#command = command
    this.#child = spawn('bash', ['-c', command], { cwd, env, detached: true })
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => (this.#output += text))
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#errors += text))
    this.exitCode = once(this.#child, 'close').then(([code]) => code as number | null)
    t.teardown(() => this.interrupt('SIGKILL'))
  }

  type(text: string): void {
    this.#child.stdin.write(`${text}\n`)
  }

  endInput(): void {
    this.#child.stdin.end()
  }

  /** Ctrl-C: the signal goes to everything that runs in the terminal. Resolves when it has ended. */
  async interrupt(signal: NodeJS.Signals = 'SIGINT'): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) process.kill(-(this.#child.pid ?? 0), signal)
    await this.exitCode
  }

  /** Waits until this has come, next after what has come before; `…` stands for anything. Resolves with what it was. */
  async waitFor(shown: string): Promise<string> {
    const pattern = new RegExp(`^${patternOf(shown)}`)
    const signal = AbortSignal.timeout(PATIENCE_MS)
    while (!pattern.test(this.#output) && !signal.aborted && this.#child.exitCode === null) {
      await Promise.race([once(this.#child.stdout, 'data', { signal }).catch(() => {}), this.exitCode])
    }
    const [found] = pattern.exec(this.#output) ?? []
    if (found === undefined)
      throw new Error(`${this.#command} did not print:\n${shown}\nbut:\n${this.#output}${this.#errors}`)
    this.#output = this.#output.slice(found.length)
    this.#t.pass(`${this.#command}: ${shown.split('\n')[0]}`)
    return found
  }
}

function patternOf(shown: string): string {
  return shown.split('…').map(escapePattern).join('[\\s\\S]*?')
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
