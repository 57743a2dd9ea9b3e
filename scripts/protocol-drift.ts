import type { MessageFields, ProtocolSurface } from './protocol-surface.ts'

/** What one kind of message gained and lost from one version to another. */
export interface MessageDrift {
  added: string[]
  removed: string[]
  changed: { method: string; added: string[]; removed: string[] }[]
}

export type SurfaceDrift = Record<keyof ProtocolSurface, MessageDrift>

/** How `to` differs from `from`; everything sorted by name. */
export function compareSurfaces(from: ProtocolSurface, to: ProtocolSurface): SurfaceDrift {
  return {
    requests: compareMessages(from.requests, to.requests),
    serverRequests: compareMessages(from.serverRequests, to.serverRequests),
    notifications: compareMessages(from.notifications, to.notifications)
  }
}

function compareMessages(from: MessageFields, to: MessageFields): MessageDrift {
  const both = [...from.keys()].filter((method) => to.has(method)).sort()
  const changed = both.flatMap((method) => {
    const [before, after] = [from.get(method) ?? [], to.get(method) ?? []]
    const [added, removed] = [outermost(only(after, before)), outermost(only(before, after))]
    return added.length + removed.length === 0 ? [] : [{ method, added, removed }]
  })
  return { added: only(to.keys(), from.keys()), removed: only(from.keys(), to.keys()), changed }
}

function only(these: Iterable<string>, those: Iterable<string>): string[] {
  const known = new Set(those)
  return [...these].filter((one) => !known.has(one)).sort()
}

/** Without fields inside others of the list: they came or went with those. */
function outermost(fields: readonly string[]): string[] {
  const paths = fields.map((field) => field.replace(/!?(: .*)?$/, ''))
  return fields.filter((_, index) => {
    const path = paths[index] ?? ''
    return !paths.some((other) => other !== path && path.startsWith(other) && /^[.[< ]/.test(path.slice(other.length)))
  })
}

const TITLES: Record<keyof ProtocolSurface, string> = {
  requests: 'Methods of clients',
  serverRequests: 'Requests of codex',
  notifications: 'Notifications'
}

/** A drift as Markdown; `isOpen` says which client methods the gateway opens: fields of others are of no account. */
export function renderDrift(drift: SurfaceDrift, isOpen: (method: string) => boolean): string {
  return (Object.keys(TITLES) as (keyof ProtocolSurface)[])
    .flatMap((kind) => {
      const { added, removed, changed } = drift[kind]
      const shown = changed.filter(({ method }) => kind !== 'requests' || isOpen(method))
      const lines = [
        ...(added.length > 0 ? [`- added: ${names(added)}`] : []),
        ...(removed.length > 0 ? [`- removed: ${names(removed)}`] : []),
        ...shown.map((one) => `- \`${one.method}\`:${part('+', one.added)}${part('−', one.removed)}`)
      ]
      return [`**${TITLES[kind]}**`, '', ...(lines.length > 0 ? lines : ['- no difference']), '']
    })
    .join('\n')
}

function part(sign: string, fields: readonly string[]): string {
  return fields.length === 0 ? '' : ` ${sign} ${names(fields)}`
}

function names(list: readonly string[]): string {
  return list.map((one) => `\`${one}\``).join(', ')
}
