import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Teardown } from './gateway.ts'

const LOOK_INTERVAL_MS = 50
const WAIT_TIMEOUT_MS = 45_000
const COLUMNS = 120
const ROWS = 70

const STATE = '#{pane_dead}/#{pane_dead_status}/#{pane_pid}'

const run = promisify(execFile)

/** For a test's `skip`: false when terminals can be had, else what to do about it. */
export const noTerminal: false | string = (() => {
  try {
    execFileSync('tmux', ['-V'], { stdio: 'ignore' })
    return false
  } catch {
    return 'tmux is not installed: `apt-get install tmux`, or nothing of this is tested'
  }
})()

/** A program in a terminal of its own, that of a tmux server which ends with the test. */
export class Terminal {
  readonly #socket: string

  private constructor(socket: string) {
    this.#socket = socket
  }

  /** Starts it with this environment and nothing else. `TERM` is set. */
  static async start(
    t: Teardown,
    command: readonly string[],
    { cwd, env }: { cwd: string; env: Record<string, string> }
  ): Promise<Terminal> {
    const terminal = new Terminal(`cloud-codex-${randomBytes(6).toString('hex')}`)
    t.teardown(() => terminal.#tmux('kill-server').catch(() => {}))
    const variables = Object.entries({ ...env, TERM: 'xterm-256color' }).map(([name, value]) => `${name}=${value}`)
    const size = ['-x', String(COLUMNS), '-y', String(ROWS)]
    // A program that has ended leaves its last screen to be read.
    const keep = [';', 'set-option', 'remain-on-exit', 'on']
    const program = ['env', '-i', ...variables, ...command].map(quote).join(' ')
    await terminal.#tmux('-f', '/dev/null', 'new-session', '-d', ...size, '-c', cwd, `exec ${program}`, ...keep)
    return terminal
  }

  /** What a person would see now, without the empty lines. */
  async screen(): Promise<string> {
    const text = await this.#tmux('capture-pane', '-p')
    const lines = text.split('\n').map((line) => line.trimEnd())
    return lines.filter((line) => line !== '').join('\n')
  }

  /**
   * Waits until the screen shows this, and returns it. Rejects with the screen when it does not come. What is looked at
   * is one line, with single spaces: where a program breaks its lines depends on the room it has.
   */
  async waitFor(shown: RegExp | ((words: string) => boolean)): Promise<string> {
    const isShown = shown instanceof RegExp ? (words: string) => shown.test(words) : shown
    const endMs = Date.now() + WAIT_TIMEOUT_MS
    for (;;) {
      const screen = await this.screen()
      if (isShown(screen.replaceAll(/\s+/g, ' '))) return screen
      if (Date.now() > endMs) throw new Error(`${shown} not within ${WAIT_TIMEOUT_MS} ms; the screen:\n${screen}`)
      await delay(LOOK_INTERVAL_MS)
    }
  }

  /** Pastes a text: typed characters that come too fast would be taken for a paste anyway, and a following Enter for part of it. */
  async paste(text: string): Promise<void> {
    await this.#tmux('set-buffer', '--', text)
    await this.#tmux('paste-buffer', '-p', '-d')
  }

  /** Presses keys, in tmux's names: `Enter`, `Escape`, `C-c`, `y`. */
  async press(...keys: string[]): Promise<void> {
    await this.#tmux('send-keys', ...keys)
  }

  /** SIGKILL, in whatever it does. */
  async kill(): Promise<void> {
    process.kill(Number(await this.#tmux('display-message', '-p', '#{pane_pid}')), 'SIGKILL')
    await this.ended()
  }

  /** Resolves with the exit code when the program has ended; null after a signal. */
  async ended(): Promise<number | null> {
    const endMs = Date.now() + WAIT_TIMEOUT_MS
    while (Date.now() < endMs) {
      // The pane is dead when its terminal is closed; of what, tmux learns a moment later.
      const [isDead, status, pid] = (await this.#tmux('display-message', '-p', STATE)).trim().split('/')
      if (isDead === '1' && (status || !isAlive(Number(pid)))) return status ? Number(status) : null
      await delay(LOOK_INTERVAL_MS)
    }
    throw new Error(`it still runs after ${WAIT_TIMEOUT_MS} ms; the screen:\n${await this.screen()}`)
  }

  async #tmux(...args: string[]): Promise<string> {
    const { stdout } = await run('tmux', ['-L', this.#socket, ...args])
    return stdout
  }
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
