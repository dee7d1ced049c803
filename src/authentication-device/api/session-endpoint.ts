/** The sessions of a user in the device API: records the browser of a session, lists sessions, and ends them. */
import type { FastifyInstance } from 'fastify'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type IdentifyCaller, sessionEnded } from './device-caller.ts'
import { userRoute } from './user-route.ts'

export interface SeenSession {
  id: string
  browser: string
  /** Milliseconds since 1970. */
  signedInAt: number
  seenAt: number
  isCurrent: boolean
}

export interface SessionEndpointNeeds {
  identifyCaller: IdentifyCaller
  sessions: {
    /** Records the browser of a session. Resolves to false if the session has ended. */
    note(sessionUid: string | undefined, browser: string): Promise<boolean>
    list(userId: string, sessionUid: string | undefined): Promise<SeenSession[]>
    end(userId: string, id: string, address: string): Promise<boolean>
    endAll(userId: string, address: string): Promise<void>
  }
}

const mostCharacters = 100

export function sessionEndpoint(
  app: FastifyInstance,
  path: string,
  { identifyCaller, sessions }: SessionEndpointNeeds,
) {
  userRoute(app, path, identifyCaller, {
    async GET({ caller }) {
      const seen = await sessions.list(caller.userId, caller.sessionUid)
      return { sessions: seen.map(show) }
    },
    async POST({ caller, form, reply }) {
      const browser = (form.get('browser') ?? '').slice(0, mostCharacters)
      if (!(await sessions.note(caller.sessionUid, browser))) throw sessionEnded()
      reply.code(201)
      return { noted: true }
    },
  })

  userRoute(app, `${path}/end`, identifyCaller, {
    async POST({ caller: { userId }, form, request }) {
      const id = form.get('id')
      if (id === undefined) {
        if (form.get('everywhere') !== 'true') throw new OAuthError('invalid_request', 'send id, or everywhere=true')
        await sessions.endAll(userId, request.ip)
      } else if (!(await sessions.end(userId, id, request.ip))) {
        throw new OAuthError('not_found', 'there is no such session', { status: 404 })
      }
      return { ended: true }
    },
  })
}

/** Returns a session for the response. Times are in seconds since 1970, as everywhere in the device API. */
function show({ id, browser, signedInAt, seenAt, isCurrent }: SeenSession) {
  return {
    id,
    browser,
    signed_in_at: Math.floor(signedInAt / 1000),
    seen_at: Math.floor(seenAt / 1000),
    current: isCurrent,
  }
}
