/**
 * The consent app: a person signs in, sees who asks for what, and approves or denies; later looks at what was approved
 * and takes it back. It works without scripts and is better with them. It knows the device API and nothing else.
 */
import cookie from '@fastify/cookie'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Audit } from '../audit.ts'
import type { Clock } from '../clock.ts'
import { rawBody } from '../http/answer.ts'
import type { BoundedWait } from '../http/bounded-wait.ts'
import { type Form, readForm } from '../http/form.ts'
import { slotOf } from '../http/in-work.ts'
import { isUnavailable } from '../http/unavailable.ts'
import { saySelfRegistered } from '../i18n/self-registered.ts'
import { chooseLanguage, type Language, type Say, type Texts } from '../i18n/texts.ts'
import type { Log } from '../log.ts'
import {
  appHeaders,
  type Framing,
  framed,
  icon,
  type PageName,
  renderPage,
  scripts,
  serviceWorker,
} from '../pages/pages.ts'
import { Refusal } from '../refusal.ts'
import { fingerprint } from '../secret.ts'
import { approvedIn, boxesOf } from './approve-less.ts'
import type { Answered, DeviceApi, ShownRequest } from './device-api.ts'
import { eventsEndpoint, type StreamLimits } from './events-endpoint.ts'
import { type Cookies, isOurs, rememberedForSeconds, type Session, safeReturn } from './session.ts'
import { sessionsEndpoint } from './sessions-endpoint.ts'
import type { SignIn } from './sign-in.ts'

export interface ConsentAppNeeds {
  issuer: string
  api: DeviceApi
  signIn: SignIn
  /** How the provider is waited for where users sign in. */
  whileSigningIn: BoundedWait
  cookies: Cookies
  /** Ends a session for good: what a client of the device API cannot, as the provider's session is part of it. */
  endSession(session: EndedSession): Promise<void>
  /** The cookie in which the provider keeps its session, where it is the provider here. */
  providerCookie: string | undefined
  texts: Texts
  /** The public key with which browsers subscribe to push messages, if they can. */
  pushKey: string | undefined
  /** Whether users look after their user codes here. */
  userCodes: boolean
  /** Hears that a user's requests have changed, by `userKey`; '' means that changes may have been missed. */
  onChange(heard: (userKey: string) => void): () => void
  userKey(userId: string): string
  framing: Framing
  /** Pages that may listen at the same time, at this process. */
  streams: StreamLimits
  clock: Clock
  log: Log
  audit: Audit
}

/** What is known of a session that ends. */
export interface EndedSession {
  accessToken: string | undefined
  /** As the provider's cookie has it. */
  providerSession: string | undefined
  pushEndpointHash: string | undefined
  address: string
}

/** What every page is given. */
interface Reader {
  session: Session | undefined
  language: Language
  say: Say
}

type RequestParams = { Params: { id: string } }

export async function consentAppEndpoint(app: FastifyInstance, needs: ConsentAppNeeds): Promise<void> {
  const { api, cookies, signIn, whileSigningIn, clock, providerCookie } = needs
  // With its signature beside it.
  const providerCookies = providerCookie === undefined ? [] : [providerCookie, `${providerCookie}.sig`]
  const headers = framed(appHeaders, needs.framing)
  await app.register(cookie)

  // Redirects too: they say what has just been done. Files that are the same for everybody say otherwise themselves.
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('cache-control', 'no-store')
  })

  serveFiles(app)

  // ── what waits ──
  app.get('/', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/')
    const answer = await api.waiting(reader.session.accessToken, reader.language)
    if (answer.status === 401) return toSignIn(reply, '/')
    return page(reply, 'app/waiting', reader, { requests: answer.body.requests, pushKey: needs.pushKey })
  })

  eventsEndpoint(app, '/events', {
    ...needs,
    sessionOf: (request) => readerOf(request).session,
    waiting: api.waiting,
    limits: needs.streams,
  })

  // ── one request ──
  app.get<RequestParams>('/approve/:id', async (request, reply) => {
    const reader = readerOf(request)
    const to = safeReturn(`/approve/${request.params.id}`)
    if (reader.session === undefined) return toSignIn(reply, to)
    const answer = await api.show(reader.session.accessToken, request.params.id, reader.language)
    if (answer.status === 401) return toSignIn(reply, to)
    const shown = answer.body.requests?.[0]
    if (shown === undefined) return notTheirs(reply, reader, to)
    if (shown.status !== 'pending') return settled(request, reply, reader, shown)
    const hasPasskey =
      shown.passkey_required && (await api.passkeys(reader.session.accessToken)).body.passkeys?.length > 0
    return ask(request, reply, reader, shown, hasPasskey)
  })

  app.post<RequestParams>('/approve/:id', async (request, reply) => {
    const reader = readerOf(request)
    const to = safeReturn(`/approve/${request.params.id}`)
    const form = formOf(request)
    if (reader.session === undefined) return sessionOver(reply, reader, to)
    if (!isTrustworthy(request, form, reader.session)) return formExpired(reply, reader, to)
    return decide(request, reply, reader, reader.session, form)
  })

  app.post<RequestParams>('/approve/:id/passkey', async (request, reply) => {
    const { session } = readerOf(request)
    if (session === undefined || !isTrustworthy(request, formOf(request), session)) throw staleForm()
    const answer = await api.confirmOptions(session.accessToken, request.params.id)
    return reply.code(answer.status).send(answer.body)
  })

  async function decide(
    request: FastifyRequest<RequestParams>,
    reply: FastifyReply,
    reader: Reader,
    session: Session,
    form: Form,
  ) {
    const { id } = request.params
    const choice = form.get('decision')
    if (choice !== 'approve' && choice !== 'deny' && choice !== 'report') {
      return formExpired(reply, reader, `/approve/${id}`)
    }
    const less = choice === 'approve' ? await approvedOn(form, session, id) : undefined
    const fields = {
      request_id: id,
      status: choice === 'approve' ? 'approved' : 'denied',
      ...(choice === 'report' && { report: true }),
      ...(less !== undefined && { authorization_details: less }),
      ...(form.has('number') && { number: form.get('number') }),
      ...(form.has('passkey') && { passkey: form.get('passkey') }),
    }
    const answer = await api.decide(session.accessToken, fields, request.ip)
    const to = safeReturn(`/approve/${id}`)
    switch (answer.status) {
      case 200: {
        const how = answer.body.reason === 'wrong_number' ? 'wrong_number' : choice
        return reply.redirect(`${to}?just=${how}`, 303)
      }
      case 401:
        return sessionOver(reply, reader, to)
      case 404:
        return notTheirs(reply, reader, to)
      case 409:
      case 410:
        // Somebody, perhaps they themselves in another window, was faster, or time ran out: the page says what stands.
        return reply.redirect(to, 303)
      case 403:
        return reply.redirect(`${to}?passkey=${answer.body.passkey_required ? 'needed' : 'refused'}`, 303)
      default:
        if (answer.body.error === 'invalid_authorization_details') return reply.redirect(`${to}?left=nothing`, 303)
        return formExpired(reply, reader, to)
    }
  }

  /** What is left of the details, where the page let its reader leave some out. */
  async function approvedOn(form: Form, session: Session, id: string) {
    const shown = (await api.show(session.accessToken, id)).body.requests?.[0]
    return shown && approvedIn(form, shown)
  }

  function ask(request: FastifyRequest, reply: FastifyReply, reader: Reader, shown: ShownRequest, hasPasskey: boolean) {
    const { passkey, left } = request.query as { passkey?: string; left?: string }
    const problem =
      passkey === 'refused'
        ? reader.say('approve.passkey_refused')
        : left === 'nothing'
          ? reader.say('approve.leave_some')
          : undefined
    const view = viewOf(shown, reader, clock.now())
    return page(reply, 'app/approve', reader, { request: shown, hasPasskey, problem, ...view })
  }

  function settled(request: FastifyRequest, reply: FastifyReply, reader: Reader, shown: ShownRequest) {
    const { just } = request.query as { just?: string }
    return page(reply, 'app/outcome', reader, { key: outcomeKey(shown, just), client: nameOf(shown) })
  }

  // ── history ──
  app.get('/activity', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/activity')
    const answer = await api.activity(reader.session.accessToken, reader.language)
    if (answer.status === 401) return toSignIn(reply, '/activity')
    const format = new Intl.DateTimeFormat(reader.language, {
      dateStyle: 'medium',
      timeStyle: 'short',
      timeZone: 'UTC',
    })
    const entries = answer.body.activity.map((entry) => ({
      ...entry,
      name: nameOf(entry),
      at: new Date(entry.decided_at * 1000).toISOString(),
      date: `${format.format(entry.decided_at * 1000)} UTC`,
    }))
    const { done, client } = request.query as { done?: string; client?: string }
    const known = entries.find((entry) => entry.client.client_id === client)
    const message = ['revoked', 'blocked', 'unblocked'].includes(done ?? '')
      ? reader.say(`activity.${done}`, { client: known?.name ?? '' })
      : undefined
    return page(reply, 'app/activity', reader, { entries, message })
  })

  act('/activity/revoke', async (session, form, from) => {
    await api.revoke(session.accessToken, form.get('request_id') ?? '', from)
    return '/activity?done=revoked'
  })

  act('/activity/block', async (session, form, from) => {
    const clientId = form.get('client_id') ?? ''
    const blocked = form.get('blocked') === 'true'
    await api.block(session.accessToken, clientId, blocked, from)
    return `/activity?done=${blocked ? 'blocked' : 'unblocked'}&client=${encodeURIComponent(clientId)}`
  })

  // ── passkeys, and this browser's notifications ──
  app.get('/passkeys', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/passkeys')
    const answer = await api.passkeys(reader.session.accessToken)
    if (answer.status === 401) return toSignIn(reply, '/passkeys')
    const format = new Intl.DateTimeFormat(reader.language, { dateStyle: 'medium', timeZone: 'UTC' })
    const date = (seconds: number | undefined) => (seconds === undefined ? undefined : format.format(seconds * 1000))
    const passkeys = answer.body.passkeys.map((key) => ({
      ...key,
      made: date(key.created_at),
      used: date(key.used_at),
    }))
    const { done } = request.query as { done?: string }
    const message = ['added', 'removed', 'failed'].includes(done ?? '') ? reader.say(`passkeys.${done}`) : undefined
    const needed = answer.body.sign_in_needed
    const again = needed && `/session/start?to=/passkeys&again=${needed.acr_values ? 'passkey' : 'yes'}`
    return page(reply, 'app/passkeys', reader, { passkeys, message, again })
  })

  app.post('/passkeys/options', async (request, reply) => {
    const { session } = readerOf(request)
    if (session === undefined || !isTrustworthy(request, formOf(request), session)) throw staleForm()
    const answer = await api.passkeyOptions(session.accessToken)
    return reply.code(answer.status).send(answer.body)
  })

  act('/passkeys', async (session, form, from, { request }) => {
    const browser = request.headers['user-agent']
    const { status } = await api.addPasskey(session.accessToken, form.get('passkey') ?? '', from, browser)
    // Signed in too long ago: the page says so.
    if (status === 401) return '/passkeys'
    return `/passkeys?done=${status === 201 ? 'added' : 'failed'}`
  })

  act('/passkeys/remove', async (session, form, from) => {
    const { status } = await api.removePasskey(session.accessToken, form.get('id') ?? '', from)
    return status === 401 ? '/passkeys' : '/passkeys?done=removed'
  })

  // ── where the user is signed in: known where they sign in here ──
  const knowsSessions = providerCookie !== undefined
  if (knowsSessions) sessionsEndpoint(app, { api, readerOf, toSignIn, page, act })

  // ── the user's code ──
  if (needs.userCodes) {
    app.get('/user-code', async (request, reply) => {
      const reader = readerOf(request)
      if (reader.session === undefined) return toSignIn(reply, '/user-code')
      const answer = await api.userCode(reader.session.accessToken)
      if (answer.status === 401) return toSignIn(reply, '/user-code')
      const { done, problem } = request.query as { done?: string; problem?: string }
      return page(reply, 'app/user-code', reader, {
        isSet: answer.body.set,
        proofNeeded: answer.body.present_code_needed,
        message: ['set', 'removed'].includes(done ?? '') ? reader.say(`user_code.${done}`) : undefined,
        problem: codeProblems.includes(problem ?? '') ? reader.say(`user_code.${problem}`) : undefined,
      })
    })

    act('/user-code', async ({ accessToken }, form, from, { request }) => {
      const [user_code, repeated] = [form.get('user_code') ?? '', form.get('repeated')]
      if (user_code !== repeated) return '/user-code?problem=differs'
      const fields = { user_code, present_code: form.get('present_code') ?? null }
      const answer = await api.setUserCode(accessToken, fields, from, request.headers['user-agent'])
      return answer.status === 200 ? '/user-code?done=set' : `/user-code?problem=${codeProblemOf(answer)}`
    })

    act('/user-code/remove', async ({ accessToken }, form, from) => {
      const answer = await api.removeUserCode(accessToken, { present_code: form.get('present_code') ?? null }, from)
      return answer.status === 200 ? '/user-code?done=removed' : `/user-code?problem=${codeProblemOf(answer)}`
    })
  }

  act('/notifications', async (session, form, _from, reply) => {
    const endpoint = form.get('endpoint') ?? ''
    if (form.has('subscription')) {
      const { status } = await api.subscribe(session.accessToken, form.get('subscription')!)
      if (status === 201) rememberBrowser(reply, endpoint)
    } else {
      await api.unsubscribe(session.accessToken, endpoint)
      reply.clearCookie(cookies.browserName, cookies.options)
    }
    return '/'
  })

  // Asked by each page of a browser that has a subscription: it may be that of somebody who was here before.
  app.post('/notifications/claim', async (request, reply) => {
    const { session } = readerOf(request)
    const form = formOf(request)
    if (session === undefined || !isTrustworthy(request, form, session)) throw staleForm()
    const endpoint = form.get('endpoint') ?? ''
    const { status, body } = await api.claimSubscription(session.accessToken, { endpoint })
    if (body.subscribed) rememberBrowser(reply, endpoint)
    return reply.code(status).send(body)
  })

  function rememberBrowser(reply: FastifyReply, endpoint: string): void {
    const sealed = cookies.sealBrowser(fingerprint(endpoint))
    reply.setCookie(cookies.browserName, sealed, { ...cookies.options, maxAge: rememberedForSeconds })
  }

  /** A form that does something and leads to a page: with a session and made by us, or nothing happens. */
  function act(
    path: string,
    work: (session: Session, form: Form, from: string, reply: FastifyReply) => Promise<string>,
  ): void {
    app.post(path, async (request, reply) => {
      const reader = readerOf(request)
      const to = safeReturn(`/${path.split('/')[1]}`)
      const form = formOf(request)
      if (reader.session === undefined) return sessionOver(reply, reader, to)
      if (!isTrustworthy(request, form, reader.session)) return formExpired(reply, reader, to)
      return reply.redirect(await work(reader.session, form, request.ip, reply), 303)
    })
  }

  // ── signing in and out ──
  app.get('/session/start', async (request, reply) => {
    const { to, as, again } = request.query as { to?: string; as?: string; again?: string }
    const { language } = readerOf(request)
    const asked = as === 'another' || again !== undefined || request.cookies[cookies.signedOutName] !== undefined
    const acrValues = again === 'passkey' ? 'phr' : undefined
    const wishes = { asked, acrValues, uiLocales: language }
    const started = await whileSigningIn(slotOf(request.raw), () => signIn.start(safeReturn(to), wishes))
    reply.setCookie(cookies.signInName, cookies.sealSignIn(started.underWay), cookies.options)
    return reply.redirect(started.url, 303)
  })

  app.get('/session/callback', async (request, reply) => {
    const reader = readerOf(request)
    const underWay = cookies.openSignIn(request.cookies[cookies.signInName])
    if (underWay === undefined) return startAgain(reply, reader, '/')
    try {
      const answer = new URL(request.url, needs.issuer)
      const session = await whileSigningIn(slotOf(request.raw), () => signIn.finish(answer, underWay, clock.now()))
      reply.clearCookie(cookies.signInName, cookies.options)
      if (session === undefined) return notOurUser(reply, reader)
      await endSubscriptionOfAnother(request, session)
      reply.setCookie(cookies.sessionName, cookies.sealSession(session), cookies.options)
      reply.clearCookie(cookies.signedOutName, cookies.options)
      return reply.redirect(underWay.to, 303)
    } catch (error) {
      // The page can be loaded again.
      if (isUnavailable(error)) throw error
      reply.clearCookie(cookies.signInName, cookies.options)
      needs.audit({ event: 'sign_in.failed', address: request.ip, by: 'consent app', outcome: nameOfError(error) })
      return startAgain(reply, reader, underWay.to)
    }
  })

  // The app's own session may be over while the provider's goes on, and so may the subscription.
  app.post('/session/end', async (request, reply) => {
    const reader = readerOf(request)
    const form = formOf(request)
    const isAllowed = reader.session ? isTrustworthy(request, form, reader.session) : !isFromElsewhere(request)
    if (!isAllowed) return formExpired(reply, reader, '/')
    const endpoint = form.get('endpoint')
    await needs.endSession({
      accessToken: reader.session?.accessToken,
      providerSession: providerCookie && request.cookies[providerCookie],
      pushEndpointHash: endpoint ? fingerprint(endpoint) : cookies.openBrowser(request.cookies[cookies.browserName]),
      address: request.ip,
    })
    for (const name of [cookies.sessionName, cookies.browserName, ...providerCookies]) {
      if (request.cookies[name] !== undefined) reply.clearCookie(name, cookies.options)
    }
    reply.setCookie(cookies.signedOutName, 'yes', { ...cookies.options, maxAge: rememberedForSeconds })
    return reply.redirect('/session/start', 303)
  })

  /** Whoever was here before, and did not sign out, is no longer told in a browser that somebody else uses now. */
  async function endSubscriptionOfAnother(request: FastifyRequest, { accessToken }: { accessToken: string }) {
    const endpoint_hash = cookies.openBrowser(request.cookies[cookies.browserName])
    if (endpoint_hash !== undefined) await api.claimSubscription(accessToken, { endpoint_hash })
  }

  // ── pages for what goes wrong ──
  function toSignIn(reply: FastifyReply, to: string) {
    return reply.redirect(`/session/start?to=${encodeURIComponent(to)}`, 303)
  }

  function notTheirs(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(404), 'app/outcome', reader, { key: 'not_yours', client: '', to })
  }

  function notOurUser(reply: FastifyReply, reader: Reader) {
    return page(reply.code(403), 'app/outcome', reader, { key: 'not_yours', client: '', to: '/' })
  }

  function sessionOver(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(401), 'app/problem', reader, { text: reader.say('error.session_over'), to, signIn: true })
  }

  function formExpired(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(403), 'app/problem', reader, { text: reader.say('error.form_expired'), to })
  }

  function startAgain(reply: FastifyReply, reader: Reader, to: string) {
    return page(reply.code(400), 'app/problem', reader, { text: reader.say('sign_in.over'), to, signIn: true })
  }

  // ── reading ──
  function readerOf(request: FastifyRequest): Reader {
    const session = cookies.openSession(request.cookies[cookies.sessionName])
    const language = chooseLanguage(session?.locale, request.headers['accept-language'])
    return { session, language, say: needs.texts.in(language) }
  }

  /**
   * A form of ours, sent by a page of ours. The token shows it; browsers that say where a form came from are believed
   * when they say "elsewhere".
   */
  function isTrustworthy(request: FastifyRequest, form: Form, session: Session): boolean {
    return !isFromElsewhere(request) && isOurs(form, session)
  }

  function isFromElsewhere(request: FastifyRequest): boolean {
    const { origin, 'sec-fetch-site': site } = request.headers
    return (
      (origin !== undefined && origin !== 'null' && origin !== new URL(needs.issuer).origin) || site === 'cross-site'
    )
  }

  function page(reply: FastifyReply, name: PageName, reader: Reader, values: Record<string, unknown>) {
    const { session, language, say } = reader
    return reply.headers(headers).send(
      renderPage(name, {
        lang: language,
        say,
        session,
        userCodes: needs.userCodes,
        sessions: knowsSessions,
        ...values,
      }),
    )
  }
}

/** The files that are the same for everybody, and what makes the app installable. */
function serveFiles(app: FastifyInstance): void {
  const manifest = JSON.stringify({
    name: 'Doorbell',
    short_name: 'Doorbell',
    start_url: '/',
    display: 'standalone',
    background_color: '#f4f2ee',
    theme_color: '#8a5a00',
    icons: [{ src: '/assets/icon.svg', sizes: 'any', type: 'image/svg+xml', purpose: 'any' }],
  })
  const files = {
    '/assets/app.js': ['text/javascript; charset=utf-8', scripts.app],
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

function formOf(request: FastifyRequest): Form {
  if (rawBody(request).length === 0) return new Map()
  return readForm(request.headers['content-type'], rawBody(request))
}

function nameOfError(error: unknown): string {
  return error instanceof Error ? error.name : 'unknown'
}

function staleForm(): Refusal {
  return new Refusal('access_denied', 'the form is too old or came from somewhere else')
}

function nameOf({ client }: Pick<ShownRequest, 'client'>): string {
  return client.client_name ?? client.client_id
}

/** What the page about a request that waits shows, in the reader's language. */
function viewOf(shown: ShownRequest, { say }: Reader, now: number) {
  const until = new Date(now + shown.expires_in * 1000)
  const wants = shown.scope.split(' ').map((scope) => {
    const text = say(`scope.${scope}`)
    return text === `scope.${scope}` ? say('scope.other', { scope }) : text
  })
  const boxes = boxesOf(shown)
  const details = (shown.authorization_details_text ?? []).map(({ lines }, index) => ({
    lines,
    boxes: boxes[index] ?? [],
  }))
  const { self_registered, hosts = [] } = shown.client
  const selfRegistered = self_registered && saySelfRegistered(say, nameOf(shown), hosts)
  return {
    client: nameOf(shown),
    selfRegistered,
    wants,
    details,
    secondsLeft: shown.expires_in,
    until: until.toISOString(),
  }
}

const codeProblems = ['differs', 'wrong', 'locked', 'too_often', 'proof_needed', 'is_password', 'not_a_code']

/** Why a user code was not changed. */
function codeProblemOf({ body }: Answered<object>): string {
  if (body.error === 'invalid_user_code') return 'wrong'
  if (body.locked) return 'locked'
  if (body.too_often) return 'too_often'
  if (body.is_password) return 'is_password'
  return body.error === 'invalid_request' ? 'not_a_code' : 'proof_needed'
}

/** Which of the outcome texts: fresh from the form, or what stands since before. */
function outcomeKey(shown: ShownRequest, just: string | undefined): string {
  if (shown.status === 'denied' && (just === 'deny' || just === 'report' || just === 'wrong_number')) {
    return { deny: 'denied', report: 'reported', wrong_number: 'wrong_number' }[just]
  }
  const approved = shown.status === 'approved' || shown.status === 'redeemed'
  if (approved) return just === 'approve' ? 'approved' : 'already_approved'
  return shown.status === 'denied' ? 'already_denied' : 'expired'
}
