import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Programs for which codex asks even inside its sandbox (execpolicy `prompt`): what talks to other machines, acts on
 * the host or other processes, changes identity or starts things for later. An accepted command stays sandboxed.
 */
const PROMPT_PROGRAMS: readonly (readonly [heading: string, programs: readonly string[]])[] = [
  // A script that codex cannot split into plain words is matched as its shell: redirections, substitution, loops.
  ['shells', ['bash', 'sh', 'zsh', 'dash', 'ksh', 'fish']],
  ['other users', ['sudo', 'su', 'doas', 'runuser', 'setpriv', 'pkexec', 'chroot', 'unshare', 'nsenter', 'bwrap']],
  ['network', ['curl', 'wget', 'ssh', 'scp', 'sftp', 'rsync', 'nc', 'ncat', 'netcat', 'socat', 'telnet', 'ftp']],
  ['containers', ['docker', 'podman', 'nerdctl', 'kubectl', 'helm']],
  ['the host', ['mount', 'umount', 'dd', 'mkfs', 'mknod', 'systemctl', 'service', 'crontab', 'at', 'batch']],
  ['processes', ['kill', 'pkill', 'killall', 'nohup', 'setsid', 'gdb', 'strace']]
]
const PROMPT_SUBCOMMANDS: readonly (readonly string[])[] = [
  ['git', 'push'],
  ['git', 'config'],
  ['git', 'remote'],
  ['git', 'submodule']
]

/** Writes the rules file of a codex home, over whatever is there: no rule may outlive the start that wrote it. */
export async function writePromptRules(codexHome: string): Promise<void> {
  const directory = join(codexHome, 'rules')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await writeFile(join(directory, 'default.rules'), renderPromptRules(), { mode: 0o600 })
}

/** Starlark for codex's execpolicy. */
export function renderPromptRules(): string {
  const programs = PROMPT_PROGRAMS.map(
    ([heading, names]) => `# ${heading}\nprefix_rule(pattern=[${JSON.stringify(names)}], decision="prompt")`
  )
  const subcommands = PROMPT_SUBCOMMANDS.map(
    (words) => `prefix_rule(pattern=${JSON.stringify(words)}, decision="prompt")`
  )
  return `${[...programs, ...subcommands].join('\n')}\n`
}
