import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

const ROOMS = ['schemas', 'src', 'plugins', 'routes']
const TOP_FILES = ['server.ts', 'app.ts', 'config.ts', 'errors.ts']
const MAX_LINES = 300

interface Import {
  from: string
  /** A path from the root for our own files, else the package. */
  to: string
  isType: boolean
}

const files = [
  ...TOP_FILES,
  ...ROOMS.flatMap((room) => readdirSync(room, { recursive: true }).map((path) => join(room, String(path))))
].filter((file) => file.endsWith('.ts') && statSync(file).isFile())
const texts = new Map(files.map((file) => [file, readFileSync(file, 'utf8')]))
const imports = files.flatMap(importsOf)

/** Where a file stands: a room, or itself at the top. */
const roomOf = (path: string) => (ROOMS.includes(path.split('/')[0] ?? '') ? (path.split('/')[0] as string) : path)
const isOurs = (to: string) => to.endsWith('.ts')

/** What each room may import of ours; `type:` only as types. */
const ALLOWED: Record<string, readonly string[]> = {
  'server.ts': ['app.ts', 'config.ts', 'errors.ts'],
  'app.ts': ['plugins', 'routes', 'schemas', 'type:config.ts', 'type:src', 'src/isolation'],
  'config.ts': ['errors.ts'],
  'errors.ts': [],
  schemas: ['schemas'],
  src: ['src', 'schemas', 'errors.ts'],
  plugins: ['plugins', 'src', 'schemas', 'errors.ts'],
  routes: ['routes', 'schemas', 'errors.ts']
}

t.test('rooms import in one direction only', (t) => {
  t.ok(imports.length > 300, 'the imports were found')
  for (const { from, to, isType } of imports) {
    if (!isOurs(to)) continue
    t.ok(existsSync(to), `${from}: ${to} exists`)
    const allowed = ALLOWED[roomOf(from)] ?? []
    const fits = allowed.some((rule) => {
      if (rule.startsWith('type:')) return isType && (roomOf(to) === rule.slice(5) || to === rule.slice(5))
      return roomOf(to) === rule || to === rule || to.startsWith(`${rule}/`)
    })
    t.ok(fits, `${from} may import ${to}`)
  }
  t.end()
})

t.test('each room has its own packages: schemas typebox, the engine no web framework and no Redis client', (t) => {
  for (const { from, to, isType } of imports) {
    if (isOurs(to) || to.startsWith('node:')) continue
    const room = roomOf(from)
    if (room === 'schemas') t.match(to, /^typebox(\/|$)/, `${from}: ${to}`)
    if (room === 'errors.ts') t.equal(to, '@fastify/error', `${from}: ${to}`)
    if (room === 'src' && !(isType && to === 'ioredis')) {
      t.notMatch(to, /^(fastify|@fastify\/|ioredis|ws$|close-with-grace|env-schema)/, `${from}: ${to}`)
    }
  }
  t.end()
})

t.test('no file imports itself over others, and in the engine no folder does', (t) => {
  const edges = new Map<string, Set<string>>()
  const folders = new Map<string, Set<string>>()
  const add = (graph: Map<string, Set<string>>, from: string, to: string) => {
    if (from !== to) graph.set(from, (graph.get(from) ?? new Set()).add(to))
  }
  for (const { from, to, isType } of imports) {
    if (!isOurs(to)) continue
    add(edges, from, to)
    if (!isType && from.startsWith('src/') && to.startsWith('src/')) add(folders, dirname(from), dirname(to))
  }
  t.strictSame(cycleIn(edges), [])
  t.strictSame(cycleIn(folders), [])
  t.end()
})

t.test('routes reach the engine through decorators only', (t) => {
  for (const { from, to } of imports)
    if (roomOf(from) === 'routes') t.notMatch(to, /^(src|plugins)\//, `${from}: ${to}`)
  const uses = [...texts].filter(([file, text]) => file.startsWith('routes/') && text.includes('getDecorator<'))
  t.ok(uses.length >= 5)
  t.end()
})

t.test('files stay small, typed and free of leftovers', (t) => {
  for (const [file, text] of texts) {
    const lines = text.split('\n').length - 1
    if (file.startsWith('src/')) t.ok(lines <= MAX_LINES, `${file} has ${lines} lines`)
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
    t.notMatch(code, /(: any\b|\bas any\b|<any>|\bany\[\])/, `${file} has no any`)
    t.notMatch(text, /@ts-(ignore|expect-error|nocheck)|\b(TODO|FIXME|XXX)\b/, `${file} has no leftovers`)
    t.notMatch(file, /\/(utils|helpers)\.ts$/)
    t.notMatch(code, /^(export )?(const )?(enum|namespace) /m, `${file} has only erasable syntax`)
    if (file !== 'server.ts') t.notMatch(code, /process\.env\b/, `${file} does not read the environment`)
    if (!/^(plugins|routes)\//.test(file)) t.notMatch(code, /^export default/m, `${file} has no default export`)
  }
  t.end()
})

function importsOf(file: string): Import[] {
  const code = readFileSync(file, 'utf8')
  const statements = code.matchAll(
    /^(?:import|export)\s+(type\s)?[^'"`;]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm
  )
  return [...statements].map(([, type, named, bare, dynamic]) => {
    const target = (named ?? bare ?? dynamic) as string
    const to = target.startsWith('.') ? normalize(join(dirname(file), target)) : target
    return { from: file, to, isType: type !== undefined }
  })
}

/** The first cycle of a graph, as the names along it; empty when there is none. */
function cycleIn(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const done = new Set<string>()
  const path: string[] = []
  const visit = (node: string): string[] => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node]
    if (done.has(node)) return []
    path.push(node)
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next)
      if (cycle.length > 0) return cycle
    }
    path.pop()
    done.add(node)
    return []
  }
  for (const node of graph.keys()) {
    const cycle = visit(node)
    if (cycle.length > 0) return cycle
  }
  return []
}
