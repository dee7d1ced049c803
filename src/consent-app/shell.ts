/** What all pages of the app share: session and language, checks of forms, error pages. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { rawBody } from '../platform/http/answer.ts'
import { type Form, readForm } from '../platform/http/form.ts'
import { chooseLanguage, type Language, type Say, type Texts } from '../platform/i18n/texts.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { type Framing, framed } from '../platform/pages/pages.ts'
import { Refused, type ShownRequest } from './device-api.ts'
import { type AppPage, appHeaders, renderPage } from './pages.ts'
import { type Cookies, isOurs, type Session, safeReturn } from './session.ts'

/** The session of a caller, and the language in which pages are shown to the caller. */
export interface Reader {
  session: Session | undefined
  language: Language
  say: Say
}

export interface ShellNeeds {
  issuer: string
  cookies: Pick<Cookies, 'openSession' | 'sessionName'>
  texts: Texts
  framing: Framing
  /** Which of the optional pages exist. */
  has: { userCodes: boolean; sessions: boolean }
}

export type Shell = ReturnType<typeof createShell>

export function createShell(app: FastifyInstance, { issuer, cookies, texts, framing, has }: ShellNeeds) {
  const headers = framed(appHeaders, framing)
  const problems = problemPages(page)

  function readerOf(request: FastifyRequest): Reader {
    const session = cookies.openSession(request.cookies[cookies.sessionName])
    const language = chooseLanguage(session?.locale, request.headers['accept-language'])
    return { session, language, say: texts.in(language) }
  }

  /**
   * Whether a form was sent by a page of this app: the form contains the form token of the session, and neither
   * `Origin` nor `Sec-Fetch-Site` says that another site has sent the form.
   */
  function isTrustworthy(request: FastifyRequest, form: Form, session: Session): boolean {
    return !isFromElsewhere(request) && isOurs(form, session)
  }

  function isFromElsewhere(request: FastifyRequest): boolean {
    const { origin, 'sec-fetch-site': site } = request.headers
    return (origin !== undefined && origin !== 'null' && origin !== new URL(issuer).origin) || site === 'cross-site'
  }

  /**
   * Whether a script or the service worker of this app has sent the call. The service worker has no page, and so no form
   * token. Browsers send `Origin` with each POST of a script, and no page can set it.
   */
  function isFromOurScript({ headers }: FastifyRequest): boolean {
    return headers.origin === new URL(issuer).origin
  }

  function page(reply: FastifyReply, name: AppPage, reader: Reader, values: Record<string, unknown>) {
    const { session, language, say } = reader
    return reply.headers(headers).send(
      renderPage(name, {
        base: app.basePath,
        lang: language,
        say,
        session,
        ...has,
        ...values,
      }),
    )
  }

  /**
   * Adds a route that receives a form. `work` makes the change that the form requests, and resolves to the path to
   * redirect to. `work` is called only if there is a session and the form was sent by a page of this app.
   */
  function act(
    path: string,
    work: (session: Session, form: Form, from: string, reply: FastifyReply) => Promise<string>,
  ): void {
    app.post(path, async (request, reply) => {
      const reader = readerOf(request)
      const to = safeReturn(`/${path.split('/')[1]}`)
      const form = formOf(request)
      if (reader.session === undefined) return problems.sessionOver(reply, reader, to)
      if (!isTrustworthy(request, form, reader.session)) return problems.formExpired(reply, reader, to)
      return reply.redirect(await work(reader.session, form, request.ip, reply), 303)
    })
  }

  // If the device API refuses a call, a browser gets a page that says what to do next. A script gets the status and the
  // error code.
  app.setErrorHandler((error, request, reply) => {
    if (!(error instanceof Refused)) throw error
    if (request.headers.accept?.includes('text/html')) return problems.refused(reply, readerOf(request), error, request)
    return reply.code(error.status).send({ error: error.code ?? 'server_error' })
  })

  return { readerOf, page, act, isTrustworthy, isFromElsewhere, isFromOurScript, ...problems }
}

type ShowPage = (reply: FastifyReply, name: AppPage, reader: Reader, values: Record<string, unknown>) => FastifyReply

/** The error pages and the page after a sign-out, each with a link to continue. */
function problemPages(page: ShowPage) {
  function toSignIn(reply: FastifyReply, to: string) {
    return reply.redirect(`/session/start?to=${encodeURIComponent(to)}`, 303)
  }

  function notTheirs(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(404), 'outcome', reader, { key: 'not_yours', client: '', to })
  }

  function notOurUser(reply: FastifyReply, reader: Reader) {
    return page(reply.code(403), 'outcome', reader, { key: 'no_user', client: '', to: '/' })
  }

  function sessionOver(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(401), 'problem', withoutSession(reader), {
      text: reader.say('error.session_over'),
      to,
      signIn: true,
    })
  }

  function formExpired(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(403), 'problem', reader, { text: reader.say('error.form_expired'), to })
  }

  function startAgain(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(400), 'problem', reader, { text: reader.say('sign_in.over'), to, signIn: true })
  }

  function signedOut(reply: FastifyReply, reader: Reader) {
    return page(reply, 'signed-out', reader, {})
  }

  /**
   * Shows the error page for a call that the device API has refused. The link on the error page leads back to the page
   * that made the call, after a sign-in if needed.
   */
  function refused(reply: FastifyReply, reader: Reader, error: Refused, { method, url }: FastifyRequest) {
    const path = url.split('?')[0]!
    const to = safeReturn(method === 'GET' ? path : `/${path.split('/')[1]}`)
    const what = error.status === 400 ? 'error.refused_form' : 'error.server'
    const text = reader.say(error.needsSignIn ? 'error.session_over' : what)
    const seen = error.needsSignIn ? withoutSession(reader) : reader
    return page(reply.code(error.status), 'problem', seen, { text, to, signIn: error.needsSignIn })
  }

  return { toSignIn, notTheirs, notOurUser, sessionOver, formExpired, startAgain, signedOut, refused }
}

/** Returns a reader for pages that do not say that a user is signed in. */
const withoutSession = (reader: Reader): Reader => ({ ...reader, session: undefined })

/** Returns the fields of a form; empty if there is no body. */
export function formOf(request: FastifyRequest): Form {
  if (rawBody(request).length === 0) return new Map()
  return readForm(request.headers['content-type'], rawBody(request))
}

/**
 * Returns the error for a call from a script with an invalid form token. If a form is sent without a script, an error
 * page is shown instead.
 */
export function staleForm(): OAuthError {
  return new OAuthError('access_denied', 'the form has expired or was sent from another site')
}

/** Returns the name of a client, or its id if it has no name. */
export function nameOf({ client }: Pick<ShownRequest, 'client'>): string {
  return client.client_name ?? client.client_id
}
