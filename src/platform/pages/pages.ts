/** Pages, rendered on the server. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Eta } from 'eta'

const views = fileURLToPath(new URL('./views/', import.meta.url))
const eta = new Eta({ views, autoEscape: true, cache: true })

export type PageName =
  | 'sign-in'
  | 'sign-out'
  | 'consent'
  | 'error'
  | 'mailbox'
  | 'demo'
  | 'app/waiting'
  | 'app/approve'
  | 'app/outcome'
  | 'app/activity'
  | 'app/passkeys'
  | 'app/sessions'
  | 'app/user-code'
  | 'app/problem'

/** Renders a page. Every value is escaped where it is shown. */
export function renderPage(name: PageName, values: Record<string, unknown>): string {
  return eta.render(`./${name}`, values)
}

export const styleSheet = read('./views/doorbell.css')
export const demoStyleSheet = read('./views/demo.css')

/** The scripts pages may use, by name. None is written into a page. */
export const scripts = {
  passkey: read('./scripts/passkey.js'),
  app: read('./scripts/app.js'),
  demo: read('./scripts/demo.js'),
}

/** What makes the app installable. */
export const serviceWorker = read('./scripts/service-worker.js')
export const icon = read('./views/icon.svg')

function read(file: string): string {
  return readFileSync(new URL(file, import.meta.url), 'utf8')
}

/** Our own scripts, nothing from elsewhere, not in a frame. */
export const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
}

/** The same for the app, which sends forms to itself, can be installed, and shows clients' logos. */
export const appHeaders = {
  ...pageHeaders,
  'content-security-policy': `${pageHeaders['content-security-policy'].replace("img-src 'self' data:", "img-src 'self' data: https:")}; form-action 'self'; manifest-src 'self'; worker-src 'self'`,
  'cross-origin-opener-policy': 'same-origin',
}

/** Who may show the pages a person decides on inside a page of their own: nobody, or this origin, for the demo's phone. */
export type Framing = 'none' | 'self'

/** `headers` for pages that may be framed as `framing` says. */
export function framed<Headers extends typeof pageHeaders>(headers: Headers, framing: Framing): Record<string, string> {
  if (framing === 'none') return headers
  const { 'x-frame-options': _denied, 'content-security-policy': policy, ...rest } = headers
  return {
    ...rest,
    'content-security-policy': policy.replace("frame-ancestors 'none'", "frame-ancestors 'self'"),
  }
}

/** The demo's page shows the phone in a frame, and is in none itself. */
export const demoHeaders = {
  ...pageHeaders,
  'content-security-policy': `${pageHeaders['content-security-policy']}; frame-src 'self'; form-action 'self'`,
}
