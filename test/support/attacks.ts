/** Something that a command of A's, let out of codex's sandbox, must not be able to do. */
export interface Attack {
  name: string
  /** Shell; ends with 0 when the attack worked. What it changes, it puts back. */
  script: string
  /**
   * Where the same works without isolation, which shows that the case can fail: for everybody, for root, or not on
   * every machine.
   */
  withoutIsolation: 'works' | 'works for root' | 'depends'
}

const attack = (name: string, script: string, withoutIsolation: Attack['withoutIsolation'] = 'works'): Attack => ({
  name,
  script,
  withoutIsolation
})
const rootAttack = (name: string, script: string) => attack(name, script, 'works for root')
const plant = (path: string) => `echo planted >> "${path}"`

/**
 * Shell variables: they are the host's paths and texts of the test: OWN_HOME is A's codex home as A sees it; B_SECRET stands in
 * B's file, B_MARK in the environment of a process of B's, KEY in that of the gateway.
 */
export const ATTACKS: readonly Attack[] = [
  // What is B's
  attack('reads a file of B’s workspace', 'grep -q "$B_SECRET" "$B_WORKSPACE/secret.txt"'),
  attack('reads it by a path that climbs out', 'grep -q "$B_SECRET" "../$(basename "$B_WORKSPACE")/secret.txt"'),
  attack('reads it through a symlink', 'ln -sfn "$B_WORKSPACE" way; grep -q "$B_SECRET" way/secret.txt'),
  attack('lists the users', 'ls "$WORKSPACE_ROOT" | grep -q "$(basename "$B_WORKSPACE")"'),
  attack('finds B’s file by its name', 'find "$DATA_DIR" /workspace /home /tmp -name secret.txt | grep -q .'),
  attack('reads B’s codex home', 'grep -q . "$B_HOME/config.toml"'),
  attack('reads B’s conversations', 'find "$B_HOME/sessions" -type f | grep -q .'),
  attack('writes to B’s workspace', 'touch "$B_WORKSPACE/planted"'),
  attack('writes to B’s codex home', 'touch "$B_HOME/config.toml"'),
  attack('deletes what is B’s', 'touch "$B_WORKSPACE/rubbish" && rm "$B_WORKSPACE/rubbish"'),
  attack('moves B’s workspace away', 'mv "$B_WORKSPACE" "$B_WORKSPACE.x" && mv "$B_WORKSPACE.x" "$B_WORKSPACE"'),
  attack('hard-links B’s file', 'ln "$B_WORKSPACE/secret.txt" "$B_WORKSPACE/same" && rm "$B_WORKSPACE/same"'),
  attack('reads what B left in the host’s /tmp', 'grep -q "$B_SECRET" "$B_TEMPORARY"'),
  attack('reads what B shares in memory', 'grep -q "$B_SECRET" "$B_SHARED"'),
  // B's processes
  attack('sees B’s processes', 'grep -qsa "$B_PATTERN" /proc/[0-9]*/cmdline'),
  attack('reads the environment of B’s process', 'test -n "$(pid_of "$B_MARK")"'),
  attack('signals B’s process', 'kill -0 "$(pid_of "$B_MARK")"'),
  attack('reads the memory map of B’s process', 'grep -q . "/proc/$(pid_of "$B_MARK")/maps"'),
  attack('reads B’s files through its process', 'grep -q "$B_SECRET" "/proc/$(pid_of "$B_MARK")/cwd/secret.txt"'),
  attack('enters the root of B’s process', 'ls "/proc/$(pid_of "$B_MARK")/root/usr"'),
  rootAttack('opens the memory of B’s process', 'true < "/proc/$(pid_of "$B_MARK")/mem"'),
  attack('lists what B’s process has open', 'test -n "$(ls "/proc/$(pid_of "$B_MARK")/fd")"'),
  rootAttack('enters the namespaces of B’s process', 'nsenter -t "$(pid_of "$B_MARK")" -m true'),
  attack('slows B’s process down', 'pid=$(pid_of "$B_MARK") && renice -n 19 "$pid"'),
  // The gateway
  attack('reads the gateway’s environment', 'test -n "$(pid_of "$KEY")"'),
  attack('signals the gateway', 'kill -0 "$(pid_of "$KEY")"'),
  rootAttack('opens the gateway’s memory', 'true < "/proc/$(pid_of "$KEY")/mem"'),
  attack('reads the gateway’s directory through /proc', 'ls "/proc/$(pid_of "$KEY")/cwd" | grep -q app.ts'),
  attack('reads the gateway’s directory', 'grep -q cloud-codex "$GATEWAY_DIRECTORY/package.json"'),
  attack('lists DATA_DIR', 'ls "$DATA_DIR" | grep -q .'),
  attack('reads the audit log', 'cat "$DATA_DIR"/audit/* | grep -q .'),
  attack('appends to the audit log', 'true >> "$(find "$DATA_DIR/audit" -type f | head -1)" && ls "$DATA_DIR/audit"'),
  attack(
    'reads the store',
    'find "$DATA_DIR" -name "*.mdb" -o -name "*.lmdb" | head -1 | xargs -I{} head -c 16 {} | grep -q .'
  ),
  attack('reads the journals', 'find "$DATA_DIR" -path "*journal*" | grep -q .'),
  attack('makes a file in DATA_DIR', 'touch "$DATA_DIR/planted"'),
  attack('replaces what codex finds on its PATH', 'touch "$DATA_DIR/shims/planted" || touch /opt/shims/planted'),
  attack('finds the gateway’s sockets', 'ls -d "$HOST_TEMPORARY"/cloud-codex-*/output'),
  // The host
  rootAttack('reads the host’s passwords', 'grep -q . /etc/shadow'),
  rootAttack('reads root’s home', 'ls /root && test -r /root'),
  attack('reads the host’s accounts', 'grep -q "^root:" /etc/passwd'),
  attack('looks into /var', 'ls /var/lib | grep -q .'),
  attack('looks into /sys', 'ls /sys/kernel | grep -q .', 'depends'),
  attack('finds a disk', 'find /dev -type b | grep -q .', 'depends'),
  rootAttack('makes a disk', 'mknod disk b 254 0 && rm disk'),
  rootAttack('writes to /', 'touch /planted && rm /planted'),
  rootAttack('writes to /usr', 'touch /usr/local/bin/planted && rm /usr/local/bin/planted'),
  rootAttack('writes to /etc', 'touch /etc/planted && rm /etc/planted'),
  attack('writes to the codex package', 'touch "$CODEX_BINARY" || touch /opt/codex/bin/codex', 'works for root'),
  rootAttack(
    'sets a kernel parameter',
    'value=$(cat /proc/sys/kernel/core_pattern); echo "$value" > /proc/sys/kernel/core_pattern'
  ),
  rootAttack('renames the host', 'hostname "$(hostname)"'),
  rootAttack('mounts a file system', 'mkdir -p mounted; mount -t tmpfs none mounted && umount mounted'),
  attack(
    'makes /usr writable in a namespace of its own',
    `${nested('mount -o remount,bind,rw /usr && touch /usr/planted')}`,
    'depends'
  ),
  attack(
    'sets a kernel parameter under a /proc of its own',
    nested('mkdir -p p; mount -t proc p p && true > p/sys/kernel/core_uses_pid'),
    'depends'
  ),
  // What would run, or be believed, later
  attack('changes config.toml', plant('$OWN_HOME/config.toml')),
  attack('replaces config.toml', 'cp "$OWN_HOME/config.toml" c && mv c "$OWN_HOME/config.toml"'),
  attack('plants a rule', plant('$OWN_HOME/rules/planted.rules')),
  attack('moves the rules away', 'mv "$OWN_HOME/rules" "$OWN_HOME/r" && mv "$OWN_HOME/r" "$OWN_HOME/rules"'),
  attack('plants hooks.json', plant('$OWN_HOME/hooks.json')),
  attack('plants a hook', 'mkdir -p "$OWN_HOME/hooks" && touch "$OWN_HOME/hooks/planted"'),
  attack('plants a skill', 'mkdir -p "$OWN_HOME/skills/planted"'),
  attack('plants an agent', 'mkdir -p "$OWN_HOME/agents" && touch "$OWN_HOME/agents/planted.toml"'),
  attack('plants a plugin', 'mkdir -p "$OWN_HOME/plugins/planted"'),
  attack('plants requirements.toml', plant('$OWN_HOME/requirements.toml')),
  attack('plants AGENTS.md', plant('$OWN_HOME/AGENTS.md')),
  attack('plants a shell profile', plant('$HOME/.bash_profile')),
  attack('plants a git configuration', plant('$HOME/.gitconfig')),
  attack('plants a skill in HOME', 'mkdir "$HOME/.agents/skills/planted"'),
  rootAttack(
    'plants settings of the whole machine',
    'mkdir -p /etc/codex && touch /etc/codex/planted && rm /etc/codex/planted && { rmdir /etc/codex || true; }'
  ),
  attack(
    'uncovers config.toml in a namespace of its own',
    nested('umount "$OWN_HOME/config.toml"; echo planted >> "$OWN_HOME/config.toml"')
  ),
  attack(
    'reaches it by a second mount',
    nested('mkdir -p m; mount --bind "$OWN_HOME" m && echo planted >> m/config.toml')
  ),
  attack(
    'reaches it by an overlay',
    nested('mkdir -p u w m; mount -t overlay o -o "lowerdir=$OWN_HOME,upperdir=u,workdir=w" m && umount m'),
    'depends'
  )
]

/** In a user and mount namespace of its own, where the command is root. */
function nested(script: string): string {
  return `unshare --user --map-root-user --mount sh -c '${script}'`
}

/** A script that tries them all and writes a line for each into `results`: its number, and 0 when it worked. */
export function renderAttacks(variables: Record<string, string>): string {
  // Not exported: the script must not find itself by what it looks for.
  const assignments = Object.entries(variables).map(([name, value]) => `${name}='${value}'`)
  const cases = ATTACKS.map(
    ({ script }, index) => `(\n${script}\n) > "out.${index}" 2>&1\necho "${index} $?" >> results`
  )
  return [
    ...assignments,
    'export OWN_HOME',
    'pid_of() { grep -lsaF "$1" /proc/[0-9]*/environ | head -1 | tr -dc 0-9 | grep .; }',
    ...cases,
    'echo done >> results'
  ].join('\n')
}
