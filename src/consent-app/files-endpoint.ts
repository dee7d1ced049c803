/** The static files of the app. */
import type { FastifyInstance } from 'fastify'
import { icon } from '../platform/pages/pages.ts'
import { appScript, liveScript, serviceWorker } from './pages.ts'

/** Adds the static files, with the manifest and the service worker that make the app installable. */
export function filesEndpoint(app: FastifyInstance): void {
  const manifest = JSON.stringify({
    name: 'Doorbell',
    short_name: 'Doorbell',
    // Browsers resolve these addresses relative to that of the manifest.
    start_url: './',
    display: 'standalone',
    background_color: '#f4f2ee',
    theme_color: '#8a5a00',
    icons: [{ src: 'assets/icon.svg', sizes: 'any', type: 'image/svg+xml', purpose: 'any' }],
  })
  const files = {
    '/assets/app.js': ['text/javascript; charset=utf-8', appScript],
    '/assets/live.js': ['text/javascript; charset=utf-8', liveScript],
    '/assets/icon.svg': ['image/svg+xml', icon],
    '/service-worker.js': ['text/javascript; charset=utf-8', serviceWorker],
    '/manifest.webmanifest': ['application/manifest+json', manifest],
  } as const
  for (const [path, [type, text]] of Object.entries(files)) {
    app.get(path, (_request, reply) =>
      reply.header('content-type', type).header('cache-control', 'public, max-age=300').send(text),
    )
  }
}
