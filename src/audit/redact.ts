/** Longer input is cut: redaction costs the same for whatever a model prints. */
export const MAX_REDACT_CHARS = 65_536

const REDACTED = '[REDACTED]'
const CUT = '[CUT]'

/** An unfinished block runs to the end: a clipped key is still a key. */
const PEM = /-----BEGIN [A-Z0-9 ]{1,40}-----[\s\S]*?(?:-----END [A-Z0-9 ]{1,40}-----|$)/g

const AUTHORIZATION =
  /\b((?:proxy-)?authorization\\?["']?\s{0,4}:\s{0,4}\\?["']?)(?:[A-Za-z][\w-]{0,20}[ \t]{1,4})?[^\s"'\\]+/gi
const COOKIE = /\b((?:set-)?cookie\\?["']?\s{0,4}:\s{0,4}\\?["']?)[^\s"'\\;]+(?:;[ \t]{0,4}[^\s"'\\;=]+=[^\s"'\\;]*)*/gi

const BEARER = /\b(bearer)\s{1,4}[A-Za-z0-9._~+/=-]{4,}/gi

const URL_CREDENTIALS = /(:\/\/)(?!git@)(?:([^\s/?#@:"']{0,256}):)?[^\s/?#"']{1,1024}@/g

/** The look-behind enters a run of token characters at its start only; without it a long run costs its square. */
const TOKENS = new RegExp(
  [
    '(?<![A-Za-z0-9])(?:',
    [
      'sk-[A-Za-z0-9_-]{6,}',
      '(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{6,}',
      'gh[opsur]_[A-Za-z0-9_]{6,}',
      'github_pat_[A-Za-z0-9_]{6,}',
      'glpat-[A-Za-z0-9_-]{6,}',
      'xox[a-z]-[A-Za-z0-9-]{6,}',
      'xapp-[A-Za-z0-9-]{6,}',
      'A(?:KI|SI)A[A-Z0-9]{12,}',
      'AIza[A-Za-z0-9_-]{20,}',
      '(?:npm|hf)_[A-Za-z0-9]{16,}'
    ].join('|'),
    ')|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{4,}\\.[A-Za-z0-9_-]{4,}(?:\\.[A-Za-z0-9_-]*)?'
  ].join(''),
  'g'
)

/** An open quote runs to the end. */
const DOUBLE = String.raw`"(?:[^"\\]|\\[\s\S])*(?:"|$)`
const SINGLE = `'[^']*(?:'|$)`
const PLAIN = String.raw`\\[\s\S]|[^\s"'\\&;|]`

/** A shell word that stops at the quote it stands in; a quoted JSON value stops before the comma. */
function wordIn(quote: Quote): RegExp {
  const pieces = [PLAIN, ...(quote === '"' ? [] : [DOUBLE]), ...(quote === "'" ? [] : [SINGLE])].join('|')
  return new RegExp(String.raw`(?:\[REDACTED\]|${DOUBLE}|${SINGLE})(?:(?=[,}\])])|(?:${pieces})*)|(?:${pieces})+`, 'y')
}

type Quote = '' | '"' | "'"
const WORDS: Record<Quote, RegExp> = { '': wordIn(''), '"': wordIn('"'), "'": wordIn("'") }

/** The name and the sign only: a value is taken when its name is secret, or `a="TOKEN=x"` would hide its inside. */
const ASSIGNMENT = /(?<![\w.-])([\w.-]{1,128})\\?["']?\s{0,2}[=:]\s{0,2}/g
const FLAG = /(?<![\w-])--?([A-Za-z][\w-]{0,64})\s{1,4}(?![\s-])/g
const USER_FLAG = /(?<![\w-])(-u|--user|--proxy-user)([\s=]{1,4}["']?)([^\s:"']{1,128}):[^\s"']+/g

const SECRET_WORD = /(?:^|[_.-])(?:secret|password|passwd|passphrase|token|credentials?|api[_.-]?key)(?:[_.-]|$)/
const SECRET_END = /(?:secret|password|passwd|passphrase|pass|pwd|token|credentials?|key|auth)$/
const DIRECTORY_NAMES = new Set(['PWD', 'OLDPWD'])

function isSecretName(name: string): boolean {
  if (DIRECTORY_NAMES.has(name)) return false
  const spaced = name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toLowerCase()
  return SECRET_WORD.test(spaced) || SECRET_END.test(spaced)
}

/**
 * Replaces what looks like a secret by `[REDACTED]`: vendor tokens, JWTs, Authorization and Cookie headers, PEM blocks,
 * credentials in URLs, and the values of names that say so (`API_KEY=…`, `"password": …`, `--token …`). Linear in the
 * input; text beyond 65,536 characters is dropped and marked `[CUT]`. Redacting twice changes nothing.
 */
export function redact(text: string): string {
  return redactAll(cut(text))
}

/** Redacts a list of words in which a flag and its value are two words (`["--password", "x"]`). */
export function redactArgv(argv: readonly string[]): string[] {
  return argv.map((word, index) => {
    const flag = index > 0 ? (argv[index - 1] ?? '') : ''
    if (/^--?[A-Za-z][\w-]*$/.test(flag) && !word.startsWith('-')) {
      if (isSecretName(flag.replace(/^--?/, ''))) return REDACTED
      if (/^(?:-u|--user|--proxy-user)$/.test(flag)) return word.replace(/^([^:]{1,128}):[\s\S]+$/, `$1:${REDACTED}`)
    }
    return redact(word)
  })
}

function redactAll(text: string): string {
  const known = text
    .replace(PEM, REDACTED)
    .replace(URL_CREDENTIALS, (_, slashes: string, user: string | undefined) =>
      user === undefined ? `${slashes}${REDACTED}@` : `${slashes}${user}:${REDACTED}@`
    )
    .replace(AUTHORIZATION, `$1${REDACTED}`)
    .replace(COOKIE, `$1${REDACTED}`)
    .replace(BEARER, `$1 ${REDACTED}`)
    .replace(TOKENS, REDACTED)
    .replace(USER_FLAG, `$1$2$3:${REDACTED}`)
  return redactValues(redactValues(known, ASSIGNMENT), FLAG)
}

/** Replaces the word after each match of `pattern` whose first group is a secret name. */
function redactValues(text: string, pattern: RegExp): string {
  let out = ''
  let done = 0
  let scanned = 0
  let quote: Quote = ''
  for (const match of text.matchAll(pattern)) {
    const start = match.index + match[0].length
    if (match.index < done || !isSecretName(match[1] ?? '')) continue
    quote = quoteAt(text, scanned, start, quote)
    scanned = start
    const word = WORDS[quote]
    word.lastIndex = start
    if (!word.test(text)) continue
    out += text.slice(done, start) + REDACTED
    done = word.lastIndex
  }
  return out + text.slice(done)
}

/** The quote that is open at `to`, when `quote` was open at `from`. */
function quoteAt(text: string, from: number, to: number, quote: Quote): Quote {
  let open = quote
  for (let at = from; at < to; at++) {
    const char = text[at]
    if (char === '\\' && open !== "'") at++
    else if (char === open) open = ''
    else if (open === '' && (char === '"' || char === "'")) open = char
  }
  return open
}

/** Cuts before the last blank: half of a token may no longer look like one. */
function cut(text: string): string {
  if (text.length <= MAX_REDACT_CHARS) return text
  const head = text.slice(0, MAX_REDACT_CHARS)
  const lastBlank = head.search(/\s\S*$/)
  return `${lastBlank === -1 ? '' : head.slice(0, lastBlank)}${CUT}`
}
