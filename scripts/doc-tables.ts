import { EnvironmentSchema } from '../config.ts'
import * as catalogue from '../errors.ts'
import { METHODS } from '../src/codex/methods.ts'

/** A part of a document that is made of the code: it stands between `<!-- NAME -->` and `<!-- /NAME -->`. */
export interface GeneratedPart {
  file: string
  name: string
  text: string
}

/** Every generated part of the documents, as it has to be now. `npm run docs` writes them, test/docs.test.ts compares. */
export function generatedParts(): GeneratedPart[] {
  return [
    { file: 'README.md', name: 'configuration', text: renderConfiguration() },
    { file: 'docs/ERRORS.md', name: 'errors', text: renderErrors() },
    { file: 'docs/ROLES.md', name: 'methods', text: renderMethods() }
  ]
}

/** The text between a part's marks. Throws when the document does not have them. */
export function readPart(document: string, { file, name }: GeneratedPart): string {
  const [, text] = marked(name).exec(document) ?? []
  if (text === undefined) throw new Error(`${file} needs the marks <!-- ${name} --> and <!-- /${name} -->`)
  return text
}

/** The document with the part brought up to date. */
export function replacePart(document: string, { name, text }: GeneratedPart): string {
  return document.replace(marked(name), () => `<!-- ${name} -->\n${text}\n<!-- /${name} -->`)
}

function marked(name: string): RegExp {
  return new RegExp(`<!-- ${name} -->\\n([\\s\\S]*?)\\n<!-- /${name} -->`)
}

function renderConfiguration(): string {
  const rows = Object.entries(EnvironmentSchema.properties).map(([name, schema]) => {
    const { description = '', default: fallback } = schema as { description?: string; default?: unknown }
    return [`\`${name}\``, fallback === undefined ? '' : `\`${fallback}\``, description]
  })
  return table(['Variable', 'Default', 'Meaning'], rows)
}

function renderErrors(): string {
  const rows = Object.values(catalogue).flatMap((entry) => {
    if (typeof entry !== 'function' || !(entry.prototype instanceof Error)) return []
    const { code, statusCode, message } = new (entry as new () => Error & { code: string; statusCode: number })()
    return [[`\`${code}\``, String(statusCode), message.replaceAll(/%[sd]/g, '…')]]
  })
  return table(
    ['Code', 'HTTP', 'Message'],
    rows.sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
  )
}

function renderMethods(): string {
  const rows = ['viewer', 'user', 'approver', 'admin'].flatMap((role) => {
    const methods = [...METHODS.values()].filter(
      (row) => row.action !== 'deny' && (row.standInFrom ?? row.role) === role
    )
    return methods.length === 0 ? [] : [[role, methods.map(({ method }) => `\`${method}\``).join(' ')]]
  })
  return table(['From role', 'Methods'], rows)
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(headings), line(headings.map(() => '---')), ...rows.map(line)].join('\n')
}
