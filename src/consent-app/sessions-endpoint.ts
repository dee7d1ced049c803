/** The page on which a user sees where they are signed in, and signs out there or everywhere. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Form } from '../platform/http/form.ts'
import type { Language, Say } from '../platform/i18n/texts.ts'
import type { DeviceApi } from './device-api.ts'
import type { AppPage } from './pages.ts'
import type { Session } from './session.ts'

interface Reader {
  session: Session | undefined
  language: Language
  say: Say
}

/** What the app's pages have in common. */
export interface SessionsPageNeeds {
  api: Pick<DeviceApi, 'sessions' | 'endSession'>
  readerOf(request: FastifyRequest): Reader
  toSignIn(reply: FastifyReply, to: string): FastifyReply
  page(reply: FastifyReply, name: AppPage, reader: Reader, values: Record<string, unknown>): FastifyReply
  /** Adds a form's address: with a session and made by us, or nothing happens. `work` says where it leads. */
  act(path: string, work: (session: Session, form: Form, from: string) => Promise<string>): void
}

export function sessionsEndpoint(
  app: FastifyInstance,
  { api, readerOf, toSignIn, page, act }: SessionsPageNeeds,
): void {
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
    const sessions = answer.body.sessions.map((each) => ({
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
    await api.endSession(accessToken, id === undefined ? { everywhere: 'true' } : { id }, from)
    return id === undefined ? '/session/start' : '/sessions?done=ended'
  })
}
