/** Pages, rendered on the server. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Eta } from 'eta'

const views = fileURLToPath(new URL('./views/', import.meta.url))
const eta = new Eta({ views, autoEscape: true, cache: true })

export type PageName = 'sign-in' | 'consent' | 'error' | 'mailbox' | 'home' | 'no-consent-app'

/** Renders a page. Every value is escaped where it is shown. */
export function renderPage(name: PageName, values: Record<string, unknown>): string {
  return eta.render(`./${name}`, values)
}

export const styleSheet = readFileSync(new URL('./views/doorbell.css', import.meta.url), 'utf8')

/** The scripts pages may use, by name. None is written into a page. */
export const scripts = { passkey: readFileSync(new URL('./scripts/passkey.js', import.meta.url), 'utf8') }

/** Our own scripts, nothing from elsewhere, not in a frame. */
export const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
}
