import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { generatedParts, readPart } from '../scripts/doc-tables.ts'
import { METHODS } from '../src/codex/methods.ts'
import { startGateway } from './support/gateway.ts'

const DOCUMENTS = ['README.md', ...readdirSync('docs').map((name) => `docs/${name}`)].filter((file) =>
  file.endsWith('.md')
)
/** Named so that a reader makes it. */
const FOR_THE_READER = new Set(['docker-compose.override.yml'])
const FOLDERS = ['src', 'plugins', 'routes', 'schemas', 'test', 'docs', 'examples', 'bench', 'docker', 'scripts', '.ci']
const documents = new Map(DOCUMENTS.map((file) => [file, readFileSync(file, 'utf8')]))

t.test('the generated tables are up to date; `npm run docs` makes them so', (t) => {
  for (const part of generatedParts()) {
    t.equal(readPart(documents.get(part.file) ?? '', part), part.text, `${part.file}: ${part.name}`)
  }
  t.end()
})

t.test('every file and folder that a document names exists', (t) => {
  let count = 0
  for (const [document, text] of documents) {
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, path]) =>
      document.startsWith('docs/') ? `docs/${path}` : (path as string)
    )
    const inCode = [...text.matchAll(/`([^`\n]+)`/g)].flatMap(([, code = '']) => code.split(/[\s,]+/))
    const named = inCode.filter(
      (word) => FOLDERS.some((folder) => word.startsWith(`${folder}/`)) || /^[\w.-]+\.(ts|md|json|yml|mjs)$/.test(word)
    )
    for (const path of [...links, ...named]) {
      count += 1
      t.ok(existsSync(path) || FOR_THE_READER.has(path), `${document}: ${path}`)
    }
  }
  t.ok(count > 60, `${count} names were found`)
  t.end()
})

t.test('every npm script that a document names exists', (t) => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
  for (const [document, text] of documents) {
    for (const [, run, short] of text.matchAll(/\bnpm (?:run ([\w:]+)|(start|test))\b/g)) {
      const name = (run ?? short) as string
      t.ok(scripts[name], `${document}: npm run ${name}`)
    }
  }
  t.end()
})

t.test('every room of the engine is on the architecture page, and every page is linked from the README', (t) => {
  const readme = documents.get('README.md') ?? ''
  for (const document of DOCUMENTS) if (document !== 'README.md') t.ok(readme.includes(`(${document})`), document)
  const rooms = documents.get('docs/ARCHITECTURE.md') ?? ''
  const folders = readdirSync('src', { withFileTypes: true }).filter((entry) => entry.isDirectory())
  for (const { name: folder } of folders) t.ok(rooms.includes(`\`src/${folder}/\``), `src/${folder}/ has its row`)
  t.end()
})

t.test('the table of roles has every route, and the role of the method behind it', async (t) => {
  const { app } = await startGateway(t)
  const { paths } = (await app.inject('/openapi.json')).json() as { paths: Record<string, Record<string, unknown>> }
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
  )
  const roles = documents.get('docs/ROLES.md') ?? ''
  const rows = [...roles.matchAll(/^\| `([A-Z]+ [^`]+)`.*? \| (\w+) \| [^|]* \| (?:`([^`]+)`)?/gm)]
  const listed = rows.map(([, route]) => route as string)
  // Not in the OpenAPI document: the sockets, the pages and the document itself.
  const others = ['GET /openapi.json', 'GET /', 'GET /ws', 'GET /decide', 'POST /decide']

  t.strictSame([...listed].sort(), [...routes, ...others].sort())
  for (const [, route, role, method] of rows) {
    const row = METHODS.get(method ?? '')
    if (row && row.action !== 'deny') t.equal(role, row.role, `${route}: ${method}`)
  }
})
