/**
 * The only keys that may stand in a repository's config before git is accepted there. Everything else can start a program
 * sooner or later (diff.external, filters, gpg.program, pagers, aliases, includes), so there is no list of bad ones.
 */
const HARMLESS_KEYS = [
  /^core\.(?:repositoryformatversion|filemode|bare|logallrefupdates)$/,
  /^remote\.[^\n]*\.(?:url|fetch)$/,
  /^branch\.[^\n]*\.(?:remote|merge)$/,
  /^user\.[a-z]+$/
]

const SECTION = /^\[([A-Za-z0-9-]+)(?:[ \t]+"((?:[^"\\]|\\["\\])*)")?\]$/
const VARIABLE = /^([A-Za-z][A-Za-z0-9-]*)[ \t]*(?:=[ \t]*([^\\#;]*))?$/

/**
 * Reads a git config file as git writes it: one section header or one variable a line. What git would also read
 * (continued lines, a header and a variable on one line, old dotted headers) is a problem, not a guess.
 *
 * @returns why git with this config is not proved to start no program, or undefined.
 */
export function configProblem(config: string): string | undefined {
  let prefix: string | undefined
  for (const raw of config.split('\n')) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    const section = SECTION.exec(line)
    if (section !== null) {
      prefix = section[2] === undefined ? `${section[1]?.toLowerCase()}` : `${section[1]?.toLowerCase()}.${section[2]}`
      continue
    }
    const variable = VARIABLE.exec(line)
    if (variable === null || prefix === undefined) return 'the git config has a line that is not read here'
    const key = `${prefix}.${variable[1]?.toLowerCase()}`
    if (!HARMLESS_KEYS.some((pattern) => pattern.test(key))) return `the git config sets "${key}"`
  }
  return undefined
}
