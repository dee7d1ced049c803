/** The pages of the app, and the files that go with them. */
import { fileText, pageHeaders, pagesIn } from '../platform/pages/pages.ts'

export type AppPage = 'waiting' | 'approve' | 'outcome' | 'activity' | 'passkeys' | 'sessions' | 'user-code' | 'problem'

export const renderPage = pagesIn<AppPage>(new URL('./views/', import.meta.url))

export const appScript = fileText(new URL('./scripts/app.js', import.meta.url))
/** What makes the app installable. */
export const serviceWorker = fileText(new URL('./scripts/service-worker.js', import.meta.url))

/** As for all pages; the app also sends forms to itself, can be installed, and shows clients' logos. */
export const appHeaders = {
  ...pageHeaders,
  'content-security-policy': `${pageHeaders['content-security-policy'].replace("img-src 'self' data:", "img-src 'self' data: https:")}; form-action 'self'; manifest-src 'self'; worker-src 'self'`,
  'cross-origin-opener-policy': 'same-origin',
}
