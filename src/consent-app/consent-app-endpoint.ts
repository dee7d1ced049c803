/**
 * The consent app: a person signs in, sees who asks for what, and approves or denies; later looks at what was approved
 * and takes it back. It works without scripts and is better with them. It knows the device API and nothing else.
 */
import cookie from '@fastify/cookie'
import type { FastifyInstance } from 'fastify'
import type { Texts } from '../platform/i18n/texts.ts'
import type { Log } from '../platform/log.ts'
import type { Framing } from '../platform/pages/pages.ts'
import { activityEndpoint } from './activity-endpoint.ts'
import { approveEndpoint } from './approve-endpoint.ts'
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
  /** The public key with which browsers subscribe to push messages, if they can. */
  pushKey: string | undefined
  /** Whether users look after their user codes here. */
  userCodes: boolean
  /** Hears that a user's requests have changed, by `userKey`; '' means that changes may have been missed. */
  onChange(listener: (userKey: string) => void): () => void
  userKey(userId: string): string
  framing: Framing
  /** Pages that may listen at the same time, at this process. */
  streams: StreamLimits
  log: Log
}

export async function consentAppEndpoint(app: FastifyInstance, needs: ConsentAppNeeds): Promise<void> {
  const { api, providerCookie, userCodes, pushKey, streams } = needs
  // Where users are signed in is known where they sign in here.
  const has = { userCodes, sessions: providerCookie !== undefined }
  await app.register(cookie)
  // Redirects too: they say what has just been done. Files that are the same for everybody say otherwise themselves.
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('cache-control', 'no-store')
  })
  const shell = createShell(app, { ...needs, has })
  const { readerOf, page, toSignIn } = shell
  filesEndpoint(app)

  // ── what waits ──
  app.get('/', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/')
    const answer = await api.waiting(reader.session.accessToken, reader.language)
    if (answer.status === 401) return toSignIn(reply, '/')
    return page(reply, 'waiting', reader, { requests: answer.body.requests, pushKey })
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
  if (userCodes) userCodeEndpoint(app, shell, api)
  notificationsEndpoint(app, shell, needs)
  sessionEndpoint(app, shell, needs)
}
