import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Teardown } from './gateway.ts'

const LOOK_INTERVAL_MS = 50
const WAIT_TIMEOUT_MS = 45_000
const COLUMNS = 120
const ROWS = 70

/** The shell that runs the program outlives it, and says how it ended. */
const AND_THEN = 'trap : INT; "$@"; echo "[ended: $?]"; trap "" INT; exec cat'
const ENDED = /\[ended: (\d+)\]/

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
    // A socket's path is short: that of the repository may be too long for it.
    const directory = await mkdtemp(join(tmpdir(), 'cloud-codex-'))
    const terminal = new Terminal(join(directory, 'tmux'))
    t.teardown(async () => {
      await terminal.#tmux('kill-server').catch(() => {})
      await rm(directory, { recursive: true, force: true })
    })
    const variables = Object.entries({ ...env, TERM: 'xterm-256color' }).map(([name, value]) => `${name}=${value}`)
    const size = ['-x', String(COLUMNS), '-y', String(ROWS)]
    const program = ['env', '-i', ...variables, 'sh', '-c', AND_THEN, 'sh', ...command].map(quote).join(' ')
    await terminal.#tmux('-f', '/dev/null', 'new-session', '-d', ...size, '-c', cwd, `exec ${program}`)
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
  async waitFor(shown: RegExp | ((words: string) => boolean), timeoutMs = WAIT_TIMEOUT_MS): Promise<string> {
    const isShown = shown instanceof RegExp ? (words: string) => shown.test(words) : shown
    const endMs = Date.now() + timeoutMs
    for (;;) {
      const screen = await this.screen()
      if (isShown(screen.replaceAll(/\s+/g, ' '))) return screen
      if (Date.now() > endMs) throw new Error(`${shown} not within ${timeoutMs} ms; the screen:\n${screen}`)
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
    process.kill(await this.pid(), 'SIGKILL')
    await this.ended()
  }

  /** The program's process id. */
  async pid(): Promise<number> {
    const shell = (await this.#tmux('display-message', '-p', '#{pane_pid}')).trim()
    const children = await readFile(`/proc/${shell}/task/${shell}/children`, 'latin1')
    return Number(children.trim())
  }

  /** Resolves with the exit code when the program has ended; a shell's, so 128 and more after a signal. */
  async ended(timeoutMs = WAIT_TIMEOUT_MS): Promise<number> {
    const screen = await this.waitFor(ENDED, timeoutMs)
    return Number(ENDED.exec(screen)?.[1])
  }

  async #tmux(...args: string[]): Promise<string> {
    const { stdout } = await run('tmux', ['-S', this.#socket, ...args])
    return stdout
  }
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
