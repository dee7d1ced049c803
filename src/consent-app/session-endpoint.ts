/** Routes to sign in and out, at this provider or at another provider. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import { fingerprint } from '../platform/crypto.ts'
import type { BoundedWait } from '../platform/http/bounded-wait.ts'
import { type LoadShedding, slotOf } from '../platform/http/load-shedding.ts'
import { targetOf } from '../platform/http/one-spelling.ts'
import { isUnavailable, unavailableIn } from '../platform/http/unavailable.ts'
import type { DeviceApi } from './device-api.ts'
import { type Cookies, rememberedForSeconds, safeReturn } from './session.ts'
import { formOf, type Shell } from './shell.ts'
import type { SignIn } from './sign-in.ts'

export interface SessionNeeds {
  issuer: string
  api: DeviceApi
  signIn: SignIn
  /**
   * Limits how many calls start or finish a sign-in at the same time. Such calls take time, because they wait for the
   * database or, if users sign in at another provider, for that provider.
   */
  whileSigningIn: BoundedWait
  whileUnproven: LoadShedding['whileUnproven']
  /** Returns the user who has signed in before with the browser that sent this `Cookie` header, or undefined. */
  returningUser(cookies: string | undefined): string | undefined
  cookies: Cookies
  /** Whether users manage their user codes on a page of this app. */
  userCodes: boolean
  /**
   * Ends a session of the app, and the user's session at this OpenID provider. The device API cannot end the latter.
   */
  endSession(session: EndedSession): Promise<void>
  /** The name of the session cookie of this OpenID provider. Undefined if users sign in at another provider. */
  providerCookie: string | undefined
  clock: Clock
  audit: Audit
}

/** What identifies a session that is to be ended. A value is undefined if it is not known. */
export interface EndedSession {
  accessToken: string | undefined
  /** The value of the session cookie of this OpenID provider. */
  providerSession: string | undefined
  pushEndpointHash: string | undefined
  address: string
}

export function sessionEndpoint(app: FastifyInstance, shell: Shell, needs: SessionNeeds): void {
  signInRoutes(app, shell, needs)
  signOutRoutes(app, shell, needs)
}

function signInRoutes(app: FastifyInstance, shell: Shell, needs: SessionNeeds): void {
  const { issuer, api, signIn, whileSigningIn, cookies, clock, audit } = needs
  const { readerOf, notOurUser, startAgain } = shell
  const finishOnce = createOnceAtATime<Awaited<ReturnType<SignIn['finish']>>>()
  const returningUserOf = (request: FastifyRequest) => needs.returningUser(request.headers.cookie)

  app.get('/session/start', async (request, reply) => {
    const { to, as, again } = request.query as { to?: string; as?: string; again?: string }
    const { language } = readerOf(request)
    const asked = as === 'another' || again !== undefined || request.cookies[cookies.signedOutName] !== undefined
    const acrValues = again === 'passkey' ? 'phr' : undefined
    const wishes = { asked, isRecent: again !== undefined, acrValues, uiLocales: language }
    const start = () => signIn.start(safeReturn(to), wishes)
    const started = await whileSigningIn(slotOf(request.raw), start, returningUserOf(request))
    for (const name of cookies.signInsToClear(request.cookies)) reply.clearCookie(name, cookies.options)
    const { underWay } = started
    reply.setCookie(cookies.signInName(underWay.state), cookies.sealSignIn(underWay), cookies.options)
    return reply.redirect(started.url, 303)
  })

  app.get('/session/callback', async (request, reply) => {
    const reader = readerOf(request)
    const { state } = request.query as { state?: unknown }
    const underWay = cookies.openSignIn(request.cookies[cookies.signInName(String(state))])
    if (underWay === undefined || underWay.state !== state) {
      // The user has loaded the page again after signing in, or has signed in in another tab since.
      return reader.session ? reply.redirect('/', 303) : startAgain(reply, reader, '/')
    }
    const signInName = cookies.signInName(underWay.state)
    try {
      const { path, search } = targetOf(request.url)
      const answer = new URL(issuer + path + search)
      const finish = () => finishOnce(underWay.state, () => signIn.finish(answer, underWay, clock.now()))
      const session = await whileSigningIn(slotOf(request.raw), finish, returningUserOf(request))
      reply.clearCookie(signInName, cookies.options)
      if (session === undefined) return notOurUser(reply, reader)
      await endSubscriptionOfAnother(request, session)
      const hasUserCode = await findsUserCode(session, needs)
      reply.setCookie(cookies.sessionName, cookies.sealSession({ ...session, hasUserCode }), cookies.options)
      reply.clearCookie(cookies.signedOutName, cookies.options)
      return reply.redirect(underWay.to, 303)
    } catch (error) {
      // If a provider or the database is unavailable, the cookie of the sign-in is kept, so that the user can load the
      // page again.
      if (isUnavailable(error)) throw unavailableIn(error) ?? error
      reply.clearCookie(signInName, cookies.options)
      audit({ event: 'sign_in.failed', address: request.ip, by: 'consent app', outcome: nameOfError(error) })
      return startAgain(reply, reader, underWay.to)
    }
  })

  /**
   * Removes the push subscription of this browser if it belongs to another user. This can happen if the other user did
   * not sign out.
   */
  async function endSubscriptionOfAnother(request: FastifyRequest, { accessToken }: { accessToken: string }) {
    const endpoint_hash = cookies.browserIn(request.headers.cookie)
    if (endpoint_hash !== undefined) await api.claimSubscription(accessToken, { endpoint_hash })
  }
}

function signOutRoutes(app: FastifyInstance, shell: Shell, needs: SessionNeeds): void {
  const { whileUnproven, cookies, endSession, providerCookie } = needs
  const { readerOf, isTrustworthy, isFromElsewhere, formExpired, signedOut } = shell
  // The session cookie of the provider, and the cookie with the signature of the session cookie.
  const providerCookies = providerCookie === undefined ? [] : [providerCookie, `${providerCookie}.sig`]

  // This route also serves browsers without a session of the app, because they may still have a session at this OpenID
  // provider and a push subscription.
  app.post('/session/end', async (request, reply) => {
    const reader = readerOf(request)
    const form = formOf(request)
    const isAllowed = reader.session ? isTrustworthy(request, form, reader.session) : !isFromElsewhere(request)
    if (!isAllowed) return formExpired(reply, reader, '/')
    const endpoint = form.get('endpoint')
    const ended = {
      accessToken: reader.session?.accessToken,
      providerSession: providerCookie && request.cookies[providerCookie],
      pushEndpointHash: endpoint ? fingerprint(endpoint) : cookies.browserIn(request.headers.cookie),
      address: request.ip,
    }
    if (reader.session !== undefined) await endSession(ended)
    else
      await whileUnproven('', slotOf(request.raw), () => endSession(ended), needs.returningUser(request.headers.cookie))
    for (const name of [cookies.sessionName, cookies.browserName, ...providerCookies]) {
      if (request.cookies[name] !== undefined) reply.clearCookie(name, cookies.options)
    }
    reply.setCookie(cookies.signedOutName, 'yes', { ...cookies.options, maxAge: rememberedForSeconds })
    // A form of this app may lead only to this origin (`form-action`), and browsers also check each redirect after the
    // form. So a redirect to another provider would be blocked.
    return reply.redirect(providerCookie === undefined ? '/session/ended' : '/session/start', 303)
  })

  app.get('/session/ended', (request, reply) => {
    const reader = readerOf(request)
    return reader.session ? reply.redirect('/', 303) : signedOut(reply, reader)
  })
}

/**
 * Returns a function that does not begin the same work again while it is in progress, but resolves to the same result.
 * Some browsers send a callback twice at once. If the code in it were used twice, the provider would end all tokens of
 * the session (RFC 6749 §4.1.2). Nothing is kept afterwards, because an answer signs in only once.
 */
function createOnceAtATime<Result>() {
  const inProgress = new Map<string, Promise<Result>>()
  return (key: string, work: () => Promise<Result>): Promise<Result> => {
    const known = inProgress.get(key)
    if (known !== undefined) return known
    const begun = work().finally(() => inProgress.delete(key))
    inProgress.set(key, begun)
    return begun
  }
}

/** Resolves to whether the user has a user code. If that cannot be found out now, resolves to false. */
async function findsUserCode(session: { accessToken: string }, needs: SessionNeeds): Promise<boolean> {
  if (!needs.userCodes) return false
  const answer = await needs.api.userCode(session.accessToken).catch(() => undefined)
  return answer?.status === 200 && answer.body.set
}

function nameOfError(error: unknown): string {
  return error instanceof Error ? error.name : 'unknown'
}
