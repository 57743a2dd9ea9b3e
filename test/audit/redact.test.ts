import t from 'tap'
import { MAX_REDACT_CHARS, redact, redactArgv } from '../../src/audit/redact.ts'

const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl'
const PEM = '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAA\n-----END OPENSSH PRIVATE KEY-----'

/** Assembled here, so that no scanner takes the test for a leak. */
const secret = (...parts: string[]) => parts.join('')

const cases: [text: string, expected: string][] = [
  [`echo ${secret('sk-', 'proj-Abc123_def-456')} done`, 'echo [REDACTED] done'],
  [`${secret('sk-', 'ant-api03-abcdefghij')}`, '[REDACTED]'],
  [
    `git clone https://${secret('ghp_', '0123456789abcdefABCD')}@github.com/a/b`,
    'git clone https://[REDACTED]@github.com/a/b'
  ],
  [secret('github_', 'pat_11ABCDEFG0_abcdefghijk'), '[REDACTED]'],
  [`slack ${secret('xox', 'b-123456789012-abcdef')}`, 'slack [REDACTED]'],
  [`id ${secret('AKIA', 'IOSFODNN7EXAMPLE')};`, 'id [REDACTED];'],
  ["curl -H 'Authorization: Bearer abc.def-123' https://x", "curl -H 'Authorization: [REDACTED]' https://x"],
  ['curl -H "authorization: Basic dXNlcjpwdw==" x', 'curl -H "authorization: [REDACTED]" x'],
  ['Bearer abcdef123456', 'Bearer [REDACTED]'],
  ["curl -H 'Cookie: sid=abc; theme=dark' x", "curl -H 'Cookie: [REDACTED]' x"],
  ["curl -H 'X-Api-Key: abc' x", "curl -H 'X-Api-Key: [REDACTED]' x"],
  [`jwt ${JWT}.`, 'jwt [REDACTED].'],
  ['OPENAI_API_KEY=abc npm test', 'OPENAI_API_KEY=[REDACTED] npm test'],
  [`DB_PASSWORD="a b" 'TOKEN=x y'`, `DB_PASSWORD=[REDACTED] 'TOKEN=[REDACTED] y'`],
  ['PGPASSWORD=ab"c d"e psql', 'PGPASSWORD=[REDACTED] psql'],
  ['SECRET=ab\\ cd ls', 'SECRET=[REDACTED] ls'],
  ["bash -c 'export AWS_SECRET_ACCESS_KEY=abc/def+g'", "bash -c 'export AWS_SECRET_ACCESS_KEY=[REDACTED]'"],
  ['mysql --password hunter2 -e x', 'mysql --password [REDACTED] -e x'],
  ['mysql --password=hunter2', 'mysql --password=[REDACTED]'],
  ['tool --client-secret "a b" run', 'tool --client-secret [REDACTED] run'],
  ['curl -u admin:hunter2 x', 'curl -u admin:[REDACTED] x'],
  ['{"password": "hunter2", "user": "a"}', '{"password": [REDACTED], "user": "a"}'],
  ['{\\"apiKey\\":\\"hunter2\\"}', '{\\"apiKey\\":[REDACTED]'],
  [`run --data='{"accessToken":"hunter2"}'`, `run --data='{"accessToken":[REDACTED]}'`],
  ['psql postgres://app:hunter2@db:5432/x', 'psql postgres://app:[REDACTED]@db:5432/x'],
  ['redis://:hunter2@cache', 'redis://:[REDACTED]@cache'],
  [`cat <<E\n${PEM}\nE`, 'cat <<E\n[REDACTED]\nE'],
  [PEM.slice(0, 60), '[REDACTED]'],
  ['password="unfinished secret', 'password=[REDACTED]']
]

const harmless = [
  'ls -la /workspace/src && git log --author=Jane --oneline',
  'cd $PWD; PWD=/home/a make -j4 CC=gcc',
  'git clone ssh://git@github.com/a/b.git',
  'grep -rn "task-runner" src/keyboard.ts --include=*.ts',
  'curl https://example.com/a?b=c@d',
  'npm run build:key-check'
]

t.test('what looks like a secret is replaced, what stands around it stays, and twice is as once', async (t) => {
  for (const [text, expected] of cases) {
    t.equal(redact(text), expected)
    t.equal(redact(expected), expected, 'twice')
  }
})

t.test('text without secrets stays as it is', async (t) => {
  for (const text of harmless) t.equal(redact(text), text)
})

t.test('in a word list a flag covers the word behind it', async (t) => {
  t.same(redactArgv(['mysql', '--password', 'x', '-u', 'root:y', 'PASSWORD=z', '--token', '--verbose']), [
    'mysql',
    '--password',
    '[REDACTED]',
    '-u',
    'root:[REDACTED]',
    'PASSWORD=[REDACTED]',
    '--token',
    '--verbose'
  ])
})

t.test('long input is cut before a blank, so that no half of a token stays', async (t) => {
  const text = `${'a '.repeat(MAX_REDACT_CHARS / 2 - 5)}${secret('gh', 'p_0123456789abcdefghij')}`
  const cut = redact(text)
  t.ok(cut.length <= MAX_REDACT_CHARS + 5)
  t.ok(cut.endsWith('a[CUT]'))
})

t.test('hostile input costs linear time', async (t) => {
  const units = [
    'eyJ',
    'a=',
    'a=a-',
    '://',
    'KEY="',
    "TOKEN='",
    '-----BEGIN A-----',
    '--a ',
    '-u a',
    'sk-',
    'cookie: a;',
    'Bearer '
  ]
  units.push(
    'a',
    ' ',
    '"',
    '\\',
    '.',
    'eyJaaaa.',
    'a:',
    'authorization: ',
    '=',
    '-',
    "x'",
    'ghp_',
    'KEY=\\',
    'password: "\\',
    '://a:'
  )
  for (const unit of units) {
    const text = unit.repeat(MAX_REDACT_CHARS / unit.length)
    const start = performance.now()
    redact(text)
    // Linear is some milliseconds; its square would be seconds.
    t.ok(performance.now() - start < 1_000, JSON.stringify(unit))
  }
})
