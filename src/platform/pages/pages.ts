/** Renders pages on the server. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Eta } from 'eta'

/** The values that a page shows. */
export interface PageValues extends Record<string, unknown> {
  /** The path of the issuer, which a page puts before the paths in its links (`base-path.ts`). */
  base: string
}

/** Renders a page by its name. Every value is escaped where it is shown. */
export type RenderPage<Name extends string> = (name: Name, values: PageValues) => string

/** Returns a renderer for the pages in a folder. `@layout` is the layout that all pages may use. */
export function pagesIn<Name extends string>(folder: URL): RenderPage<Name> {
  const eta = new Eta({ views: fileURLToPath(folder), autoEscape: true, cache: true })
  eta.loadTemplate('@layout', layout)
  return (name, values) => eta.render(`./${name}`, values)
}

const layout = read('./views/layout.eta')
const renderOwn = pagesIn<'error'>(new URL('./views/', import.meta.url))

/** Renders the error page for browsers. */
export const renderError = (values: PageValues) => renderOwn('error', values)

export const styleSheet = read('./views/doorbell.css')
export const icon = read('./views/icon.svg')
/** The script that asks the browser for a passkey. */
export const passkeyScript = read('./scripts/passkey.js')

function read(file: string): string {
  return fileText(new URL(file, import.meta.url))
}

/** Returns the text of a file. */
export function fileText(file: URL): string {
  return readFileSync(file, 'utf8')
}

/**
 * Headers of pages. With them, a page runs only the server's own scripts, loads nothing from other servers, and cannot
 * be shown in a frame.
 */
export const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
}

/**
 * Where the consent pages and sign-in pages may be shown in a frame. `none`: nowhere. `self`: on pages of this origin.
 * Only the demo uses `self`: its page shows the consent pages in a frame that looks like the user's phone.
 */
export type Framing = 'none' | 'self'

/** Returns `headers`, changed so that the page may be shown in the frames that `framing` allows. */
export function framed<Headers extends typeof pageHeaders>(headers: Headers, framing: Framing): Record<string, string> {
  if (framing === 'none') return headers
  const { 'x-frame-options': _denied, 'content-security-policy': policy, ...rest } = headers
  return {
    ...rest,
    'content-security-policy': policy.replace("frame-ancestors 'none'", "frame-ancestors 'self'"),
  }
}
