import { createHash } from 'node:crypto'
import type { ApprovalResolved, Decider } from '../schemas/approvals.ts'
import type { TokenDecision, WebhookApproval } from '../schemas/webhooks.ts'

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
dt { font-size: .8rem; opacity: .7; margin-top: 1rem }
dd { margin: 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; border: 1px solid #8888; border-radius: 6px; margin: .25rem 0 }
mark { font-size: .8em }
form { display: flex; gap: .75rem; flex-wrap: wrap; margin: 2rem 0 }
button { font: inherit; padding: .5rem 1.25rem; border-radius: 6px; border: 1px solid #8888; cursor: pointer }
`

const STYLE_SHA256 = createHash('sha256').update(STYLE).digest('base64')

/** Nothing is loaded, nothing runs, nobody frames it, and the token in its address reaches no other host. */
export const PAGE_HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${STYLE_SHA256}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  // Not `no-referrer`: browsers then send `Origin: null` with the form, and the origin check would refuse it.
  'referrer-policy': 'same-origin',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-robots-tag': 'noindex'
}

const BUTTONS: Record<TokenDecision, string> = {
  accept: 'Accept',
  decline: 'Decline',
  cancel: 'Decline and end the turn'
}

export interface AskedDecision {
  userId: string
  approval: WebhookApproval
  decisions: readonly TokenDecision[]
}

/** The page that shows what is asked. Only its buttons decide. */
export function askPage({ userId, approval, decisions }: AskedDecision, token: string): string {
  const { kind, command, cwd, paths, subject, reason, policy, expiresAt } = approval
  const facts = [
    fact('User', userId),
    fact('What', kind),
    fact('Command', command, 'pre'),
    fact('Directory', cwd, 'pre'),
    fact('Files', paths?.join('\n'), 'pre'),
    fact('About', subject, 'pre'),
    fact('Why codex asks', reason),
    fact('Why the policy asks', policy.reason),
    fact('Answer until', expiresAt)
  ]
  const buttons = decisions.map(
    (decision) => `<button name="decision" value="${decision}">${BUTTONS[decision]}</button>`
  )
  const note = decisions.includes('accept')
    ? ''
    : '<p>This question is not shown here in full, so it cannot be accepted here. Use a client of the gateway.</p>'
  // Relative, so that it also works behind a proxy that adds a path.
  const form = `<form method="post" action="decide"><input type="hidden" name="token" value="${escapeHtml(token)}">${buttons.join('')}</form>`
  return page('codex asks for your approval', `<dl>${facts.join('')}</dl>${note}${form}`)
}

/** How the approval ended. */
export function endPage({ outcome, by }: Pick<ApprovalResolved, 'outcome' | 'by'>): string {
  return page(`This approval is ${outcome}`, `<p>By: ${escapeHtml(nameOf(by))}. You can close this page.</p>`)
}

export function errorPage(message: string): string {
  return page('Nothing was decided', `<p>${escapeHtml(message)}.</p>`)
}

function nameOf({ kind, id, rule }: Decider): string {
  return [kind, id, rule].filter((part) => part !== undefined).join(' ')
}

function fact(name: string, value: string | undefined, tag: 'pre' | 'span' = 'span'): string {
  return value === undefined ? '' : `<dt>${name}</dt><dd><${tag}>${escapeHtml(value)}</${tag}></dd>`
}

function page(title: string, content: string): string {
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">' +
    `<title>${title}</title><style>${STYLE}</style></head><body><h1>${title}</h1>${content}</body></html>`
  )
}

/** Also makes visible what is not: a control that turns the direction of writing shows another command than runs. */
function escapeHtml(text: string): string {
  return text
    .replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
    .replace(
      /(?!\n)[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
      (char) => `<mark>U+${char.codePointAt(0)?.toString(16).padStart(4, '0')}</mark>`
    )
}
