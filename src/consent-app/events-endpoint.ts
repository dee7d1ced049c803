/**
 * Event streams for open pages of the app. A page is notified through its stream when the pending requests of its user
 * change. The number of streams is limited.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../platform/clock.ts'
import { sessionChallenge } from '../platform/http/challenge.ts'
import { type EventStream, openEventStream, tooManyStreams } from '../platform/http/event-stream.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { createRequestWatch, type RequestWatchNeeds } from './request-watch.ts'
import type { Session } from './session.ts'

export interface StreamLimits {
  perSession: number
  perUser: number
  inAll: number
}

export interface EventsNeeds extends RequestWatchNeeds {
  sessionOf(request: FastifyRequest): Session | undefined
  /** Returns the key with which `onChange` reports changes of a user's requests. */
  userKey(userId: string): string
  limits: StreamLimits
  clock: Clock
}

export function eventsEndpoint(app: FastifyInstance, path: string, needs: EventsNeeds): void {
  const { sessionOf, userKey, limits, clock } = needs
  const watch = createRequestWatch(needs)
  const streams = new Set<EventStream>()
  const ofSession = createCounts()
  const ofUser = createCounts()

  // There is no route for HEAD, because its response would never end.
  app.get(path, { exposeHeadRoute: false }, (request, reply) => {
    const session = sessionOf(request)
    if (session === undefined) throw notSignedIn()
    open(reply, session)
  })

  // All streams are ended before the server closes, because it cannot close while streams are open.
  app.addHook('preClose', async () => {
    watch.close()
    for (const stream of streams) stream.end()
  })

  /** Responds with an event stream. The event `changed` tells the page to fetch its content again. */
  function open(reply: FastifyReply, session: Session): void {
    const { formToken, userId, accessToken } = session
    const isTooMany =
      ofUser.of(userId) >= limits.perUser ||
      ofSession.of(formToken) >= limits.perSession ||
      streams.size >= limits.inAll
    if (isTooMany) throw tooManyStreams()

    ofUser.add(userId, 1)
    ofSession.add(formToken, 1)
    const stream = openEventStream(reply, {
      clock,
      mayGoOn: () => clock.now() < session.expiresAt,
      onEnd() {
        ofUser.add(userId, -1)
        ofSession.add(formToken, -1)
        streams.delete(stream)
        stopWatching()
      },
    })
    streams.add(stream)
    const stopWatching = watch.add(userKey(userId), {
      accessToken,
      changed: () => stream.send('changed', ''),
      end: stream.end,
    })
  }
}

const notSignedIn = () =>
  new OAuthError('invalid_token', 'sign in first', { headers: { 'WWW-Authenticate': sessionChallenge } })

/** Creates counters, one for each key. A counter at 0 takes no memory. */
function createCounts() {
  const counts = new Map<string, number>()
  const of = (key: string) => counts.get(key) ?? 0
  return {
    of,
    add(key: string, more: number): void {
      const now = of(key) + more
      if (now > 0) counts.set(key, now)
      else counts.delete(key)
    },
  }
}
