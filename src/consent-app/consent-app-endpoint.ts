/**
 * The consent app. A user signs in, sees which client asks for approval and for what, and approves or denies. The user
 * can also see past decisions and revoke approvals. The app works even without scripts in the browser. It reads and
 * decides requests only through the device API.
 */
import cookie from '@fastify/cookie'
import type { FastifyInstance } from 'fastify'
import type { Texts } from '../platform/i18n/texts.ts'
import type { Log } from '../platform/log.ts'
import type { Framing } from '../platform/pages/pages.ts'
import { activityEndpoint } from './activity-endpoint.ts'
import { approveEndpoint } from './approve-endpoint.ts'
import { succeeded } from './device-api.ts'
import { eventsEndpoint, type StreamLimits } from './events-endpoint.ts'
import { filesEndpoint } from './files-endpoint.ts'
import { notificationsEndpoint } from './notifications-endpoint.ts'
import { passkeysEndpoint } from './passkeys-endpoint.ts'
import { type SessionNeeds, sessionEndpoint } from './session-endpoint.ts'
import { sessionsEndpoint } from './sessions-endpoint.ts'
import { createShell } from './shell.ts'
import { userCodeEndpoint } from './user-code-endpoint.ts'

export interface ConsentAppNeeds extends SessionNeeds {
  texts: Texts
  /** The public key with which browsers subscribe to push messages; undefined if push messages are off. */
  pushKey: string | undefined
  /**
   * Calls `listener` with the `userKey` of each user whose requests have changed. If changes may have been missed,
   * calls it with '', which stands for all users. Returns a function that removes `listener`.
   */
  onChange(listener: (userKey: string) => void): () => void
  /** Like `onChange`, but calls `listener` when a session of a user has ended. */
  onSessionsEnded(listener: (userKey: string) => void): () => void
  userKey(userId: string): string
  framing: Framing
  /** Limits on open event streams, in this process. */
  streams: StreamLimits
  log: Log
}

export async function consentAppEndpoint(app: FastifyInstance, needs: ConsentAppNeeds): Promise<void> {
  const { api, providerCookie, userCodes, pushKey, streams } = needs
  // The page of sessions exists only if users sign in at this provider, because sessions at another provider are not
  // known here.
  const has = { userCodes, sessions: providerCookie !== undefined }
  await app.register(cookie)
  // `Cache-Control: no-store` on pages and on redirects. Redirects must not be cached either, because their address
  // tells what the user has just done, for example `/activity?done=revoked`. Static files replace this value with
  // another `Cache-Control`.
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('cache-control', 'no-store')
  })
  const shell = createShell(app, { ...needs, has })
  const { readerOf, page, toSignIn } = shell
  filesEndpoint(app)

  // ── pending requests ──
  app.get('/', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/')
    const answer = await api.waiting(reader.session.accessToken, reader.language)
    if (answer.status === 401) return toSignIn(reply, '/')
    return page(reply, 'waiting', reader, { requests: succeeded(answer).requests, pushKey })
  })

  eventsEndpoint(app, '/events', {
    ...needs,
    sessionOf: (request) => readerOf(request).session,
    waiting: api.waiting,
    limits: streams,
  })

  approveEndpoint(app, shell, needs)
  activityEndpoint(app, shell, api)
  passkeysEndpoint(app, shell, api)
  if (has.sessions) sessionsEndpoint(app, shell, api)
  if (userCodes) userCodeEndpoint(app, shell, needs)
  notificationsEndpoint(app, shell, needs)
  sessionEndpoint(app, shell, needs)
}
