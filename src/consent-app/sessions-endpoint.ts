/**
 * The page that lists the browsers in which the user is signed in. The user can sign out in one of them, or everywhere.
 */
import type { FastifyInstance } from 'fastify'
import { type DeviceApi, succeeded } from './device-api.ts'
import type { Shell } from './shell.ts'

export function sessionsEndpoint(
  app: FastifyInstance,
  shell: Shell,
  api: Pick<DeviceApi, 'sessions' | 'endSession'>,
): void {
  const { readerOf, toSignIn, page, act } = shell

  app.get('/sessions', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/sessions')
    const answer = await api.sessions(reader.session.accessToken)
    if (answer.status === 401) return toSignIn(reply, '/sessions')
    const format = new Intl.DateTimeFormat(reader.language, {
      dateStyle: 'medium',
      timeStyle: 'short',
      timeZone: 'UTC',
    })
    const date = (seconds: number) => `${format.format(seconds * 1000)} UTC`
    const sessions = succeeded(answer).sessions.map((each) => ({
      ...each,
      signedIn: date(each.signed_in_at),
      lastUsed: date(each.seen_at),
    }))
    const { done } = request.query as { done?: string }
    const message = done === 'ended' ? reader.say('sessions.ended') : undefined
    return page(reply, 'sessions', reader, { sessions, message })
  })

  act('/sessions/end', async ({ accessToken }, form, from) => {
    const id = form.get('id')
    succeeded(await api.endSession(accessToken, id === undefined ? { everywhere: 'true' } : { id }, from))
    return id === undefined ? '/session/start' : '/sessions?done=ended'
  })
}
