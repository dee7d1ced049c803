/** The pages of the app, and their scripts. */
import { fileText, pageHeaders, pagesIn } from '../platform/pages/pages.ts'

export type AppPage =
  | 'waiting'
  | 'approve'
  | 'outcome'
  | 'activity'
  | 'passkeys'
  | 'sessions'
  | 'user-code'
  | 'problem'
  | 'signed-out'

/** Renders a page of the app as HTML. */
export const renderPage = pagesIn<AppPage>(new URL('./views/', import.meta.url))

export const appScript = fileText(new URL('./scripts/app.js', import.meta.url))
/** The script that keeps open pages up to date. */
export const liveScript = fileText(new URL('./scripts/live.js', import.meta.url))
/** The service worker, which makes the app installable. */
export const serviceWorker = fileText(new URL('./scripts/service-worker.js', import.meta.url))

/**
 * The headers of all pages of the app. In addition to `pageHeaders`, they permit forms that are sent to the app, a
 * manifest, a service worker, and logos of clients.
 */
export const appHeaders = {
  ...pageHeaders,
  'content-security-policy': `${pageHeaders['content-security-policy'].replace("img-src 'self' data:", "img-src 'self' data: https:")}; form-action 'self'; manifest-src 'self'; worker-src 'self'`,
  'cross-origin-opener-policy': 'same-origin',
}
