/** The session of the app, in a cookie that only this server can read and write. */
import type { Clock } from '../platform/clock.ts'
import { newSecret, sameSecret, type Vault } from '../platform/crypto.ts'
import { cookieNaming } from '../platform/http/cookie-names.ts'

export interface Session {
  userId: string
  name: string
  /** The language tag of the user (BCP 47), if the provider returned one. */
  locale: string | undefined
  accessToken: string
  /**
   * Whether the user had a user code when this browser last asked. The navigation shows the page of the user code only to
   * those who have one.
   */
  hasUserCode?: boolean
  /** Every form must contain this token, which protects against cross-site request forgery. */
  formToken: string
  /** Milliseconds since 1970. */
  expiresAt: number
}

/**
 * A sign-in in progress: the values that the authorization response is checked against, and the page to open
 * afterwards.
 */
export interface SignInUnderWay {
  state: string
  nonce: string
  codeVerifier: string
  to: string
  expiresAt: number
}

/** Who has switched on notifications in a browser. */
export interface SubscribedBrowser {
  pushEndpointHash: string
  /** Undefined in cookies of earlier versions. */
  userId?: string
}

export interface Cookies {
  sessionName: string
  /**
   * Returns the name of the cookie of a sign-in in progress. Each sign-in has its own cookie, so that users can sign in
   * in several tabs at the same time.
   * @param state the `state` of the authorization request
   */
  signInName(state: string): string
  /**
   * Returns the names of the cookies of sign-ins that must be cleared before another sign-in is started, so that no more
   * than `mostSignIns` are kept: those that have expired, then the oldest.
   * @param sent the cookies that the browser has sent
   */
  signInsToClear(sent: Record<string, string | undefined>): string[]
  /**
   * The name of a cookie that is set when a user signs out. While it is set, the next user of the browser must sign in,
   * even if the provider still has a session.
   */
  signedOutName: string
  /**
   * The name of a cookie with the SHA-256 of the endpoint of this browser's push subscription, and its user. The cookie is
   * kept when another user signs in, so that the subscription of the previous user can be removed. It is cleared when the
   * user switches notifications off, or signs out.
   */
  browserName: string
  /** The attributes in `Set-Cookie` that all cookies of the app have. */
  options: { path: '/'; httpOnly: true; sameSite: 'lax'; secure: boolean }
  sealSession(session: Omit<Session, 'formToken'>): string
  /** Like `sealSession`, but keeps the form token, so that forms in other tabs stay valid. */
  resealSession(session: Session): string
  openSession(value: string | undefined): Session | undefined
  /**
   * Returns the id of the user whose session is in the `Cookie` header, even if the session has expired. Undefined if
   * there is no session.
   */
  userIn(header: string | undefined): string | undefined
  sealSignIn(signIn: Omit<SignInUnderWay, 'expiresAt'>): string
  openSignIn(value: string | undefined): SignInUnderWay | undefined
  sealBrowser(subscriber: SubscribedBrowser): string
  /** Returns the content of the cookie `browserName`; undefined if its value is missing or not valid. */
  openBrowser(value: string | undefined): SubscribedBrowser | undefined
  /** Returns the hash of the endpoint in a `Cookie` header. */
  browserIn(header: string | undefined): string | undefined
}

/**
 * The `maxAge` of the cookies `signedOutName` and `browserName`, in seconds. Browsers keep no cookie longer than 400
 * days. That is long enough, because a session of the provider ends after a year at the latest
 * (`sessions.absoluteTtl`).
 */
export const rememberedForSeconds = 400 * 24 * 3600

/** Maximum duration of a sign-in in milliseconds. */
const signInTakes = 15 * 60_000

/** How many sign-ins in progress a browser keeps. Their cookies have about 500 bytes each, and are sent with every call. */
const mostSignIns = 8

/** Returns functions that read and write the cookies. */
export function createCookies({ issuer, vault, clock }: { issuer: string; vault: Vault; clock: Clock }): Cookies {
  const { secure, prefix, suffix } = cookieNaming(issuer)

  function openExpired<T>(value: string | undefined, aad: string): T | undefined {
    if (value === undefined) return undefined
    try {
      return JSON.parse(vault.open(value, aad)) as T
    } catch {
      return undefined
    }
  }

  function open<T extends { expiresAt: number }>(value: string | undefined, aad: string): T | undefined {
    const opened = openExpired<T>(value, aad)
    return opened !== undefined && opened.expiresAt > clock.now() ? opened : undefined
  }

  function valueIn(header: string | undefined, name: string): string | undefined {
    const sent = header?.split(/; */).find((cookie) => cookie.startsWith(`${name}=`))
    return sent?.slice(name.length + 1)
  }

  const sessionName = `${prefix}doorbell_app${suffix}`
  const signInName = (state: string) => `${prefix}doorbell_app_sign_in_${state}${suffix}`
  const isSignInName = (name: string) => {
    const state = name.slice(signInName('').length - suffix.length, name.length - suffix.length)
    return /^[\w-]+$/.test(state) && name === signInName(state)
  }
  const browserName = `${prefix}doorbell_app_browser${suffix}`
  const openBrowser = (value: string | undefined) =>
    open<SubscribedBrowser & { expiresAt: number }>(value, 'consent-app/browser')

  return {
    sessionName,
    // A prefix of the state identifies the sign-in. The whole state is in the cookie, and is compared at the callback.
    signInName: (state) => signInName(state.slice(0, 12)),
    signInsToClear(sent) {
      const expiryOf = (name: string) => open<SignInUnderWay>(sent[name], 'consent-app/sign-in')?.expiresAt ?? 0
      const oldestFirst = Object.keys(sent)
        .filter(isSignInName)
        // A browser keeps fewer. This bounds the response to a caller that sends many small cookies.
        .slice(0, 2 * mostSignIns)
        .map((name) => ({ name, expiresAt: expiryOf(name) }))
        .sort((one, two) => one.expiresAt - two.expiresAt)
      const tooMany = oldestFirst.length - mostSignIns + 1
      return oldestFirst.filter(({ expiresAt }, index) => expiresAt === 0 || index < tooMany).map(({ name }) => name)
    },
    signedOutName: `${prefix}doorbell_app_signed_out${suffix}`,
    browserName,
    options: { path: '/', httpOnly: true, sameSite: 'lax', secure },
    // Each session gets a new form token. So a form token that an attacker put into the browser before the sign-in is
    // not valid after it.
    sealSession: (session) =>
      vault.seal(JSON.stringify({ ...session, formToken: newSecret(16) }), 'consent-app/session'),
    resealSession: (session) => vault.seal(JSON.stringify(session), 'consent-app/session'),
    openSession: (value) => open<Session>(value, 'consent-app/session'),
    userIn: (header) => openExpired<Session>(valueIn(header, sessionName), 'consent-app/session')?.userId,
    sealSignIn: (signIn) =>
      vault.seal(JSON.stringify({ ...signIn, expiresAt: clock.now() + signInTakes }), 'consent-app/sign-in'),
    openSignIn: (value) => open<SignInUnderWay>(value, 'consent-app/sign-in'),
    sealBrowser: (subscriber) =>
      vault.seal(
        JSON.stringify({ ...subscriber, expiresAt: clock.now() + rememberedForSeconds * 1000 }),
        'consent-app/browser',
      ),
    openBrowser,
    browserIn: (header) => openBrowser(valueIn(header, browserName))?.pushEndpointHash,
  }
}

/** Whether a form contains the form token of this session. */
export function isOurs(form: ReadonlyMap<string, string>, session: Session): boolean {
  return sameSecret(form.get('form_token') ?? '', session.formToken)
}

/**
 * Returns `to` if it is a page of this app, and `/` if it is not. So a link cannot redirect the user to another site
 * after the sign-in.
 */
export function safeReturn(to: string | undefined): string {
  return to !== undefined &&
    /^\/(approve\/[A-Za-z0-9-]{1,64}|activity|passkeys(\?request=[A-Za-z0-9-]{1,64})?|sessions|user-code)?$/.test(to)
    ? to
    : '/'
}
