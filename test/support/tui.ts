import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { locateCodexBinary } from '../../src/codex/binary.ts'
import { scratchDirectory, type Teardown } from './gateway.ts'
import { Terminal } from './terminal.ts'

/**
 * What a person has answered long ago: which model (a menu would come first), and that theirs is no screen reader. The
 * rest keeps the TUI from calling anybody but the gateway.
 */
const CONFIG = `check_for_update_on_startup = false
[tui]
screen_reader_detection_done = true
[notice.model_migrations]
"gpt-5.5" = "gpt-6-sol"
[analytics]
enabled = false
[feedback]
enabled = false
`
/** It ends within half a second, or it wants to be told again. */
const SECOND_THOUGHTS_MS = 4_000
const PROMPT = /› Ask Codex to do anything/

/** The official TUI, on a machine of its own as far as it can see: a home, a directory, and the address of a gateway. */
export class Tui {
  readonly terminal: Terminal

  private constructor(terminal: Terminal) {
    this.terminal = terminal
  }

  /** Starts `codex --remote … <args>`; the token goes by an environment variable. */
  static async start(t: Teardown, address: string, token: string, args: readonly string[] = []): Promise<Tui> {
    const root = await scratchDirectory(t)
    const [home, cwd] = [join(root, 'home'), join(root, 'elsewhere')]
    await mkdir(home)
    await mkdir(cwd)
    await writeFile(join(home, 'config.toml'), CONFIG)
    const remote = ['--remote', `ws://${address}`, '--remote-auth-token-env', 'CODEX_TOKEN']
    const env = { PATH: process.env.PATH ?? '', HOME: home, CODEX_HOME: home, CODEX_TOKEN: token }
    return new Tui(await Terminal.start(t, [locateCodexBinary(), ...remote, ...args], { cwd, env }))
  }

  /** Waits for the empty composer of a thread that is loaded and in which nothing runs. */
  ready(): Promise<string> {
    return this.terminal.waitFor(
      (words) => PROMPT.test(words) && !/esc to interrupt/i.test(words) && !/\(v[\d.]+\) loading/.test(words)
    )
  }

  /** Writes a message and sends it. */
  async say(text: string): Promise<void> {
    await this.ready()
    await this.terminal.paste(text)
    const lastLine = text.split('\n').at(-1) as string
    await this.terminal.waitFor((words) => !PROMPT.test(words) && words.includes(lastLine))
    await this.terminal.press('Enter')
  }

  /** Waits for the approval prompt of this command. */
  asked(command: string): Promise<string> {
    return this.terminal.waitFor(
      (words) => words.includes('Would you like to run the following command?') && words.includes(`$ ${command}`)
    )
  }

  /** Ctrl-C, and once more when it wants to be sure. Resolves with the exit code. */
  async quit(): Promise<number> {
    await this.ready()
    await this.terminal.press('C-c')
    return this.terminal.ended(SECOND_THOUGHTS_MS).catch(async () => {
      await this.terminal.press('C-c')
      return this.terminal.ended()
    })
  }
}
