/**
 * Signs users in to the app with OpenID Connect (authorization code and PKCE), at this provider or at another provider.
 */
import * as openid from 'openid-client'
import { toResponse } from '../platform/http/fetch.ts'
import { Unavailable, unavailableIn } from '../platform/http/unavailable.ts'
import type { SendToServer } from './device-api.ts'
import type { Session, SignInUnderWay } from './session.ts'

export interface SignInNeeds {
  issuer: string
  clientId: string
  clientSecret: string
  /** How the app authenticates at the token endpoint. */
  authMethod: 'client_secret_basic' | 'client_secret_post'
  redirectUri: string
  scope: string
  /** Sends requests to the provider. */
  fetch: openid.CustomFetch
  /**
   * Finds the user of this server who signed in at the provider. Resolves to this user and an access token for the
   * device API, or to undefined if the person who signed in is not a user of this server.
   */
  admit(signedIn: SignedIn): Promise<Admitted | undefined>
}

/** The result of a sign-in at the provider. */
export interface SignedIn {
  /** The claims of the verified ID token. */
  claims: openid.IDToken
  idToken: string
  userInfo: openid.UserInfoResponse
  accessToken: string
  /** The scope of the access token, as the provider returned it. */
  scope: string | undefined
  /** Lifetime of the access token in seconds. */
  expiresIn: number
}

/** A user of this server, with an access token for the device API. `expiresIn` is in seconds. */
export type Admitted = Pick<Session, 'userId' | 'name' | 'locale' | 'accessToken'> & { expiresIn: number }

export interface SignInWishes {
  /**
   * Whether the user must sign in even if the provider has a session of the user. This is needed to sign in as another
   * user, or if a recent sign-in is required.
   */
  asked?: boolean
  /** Whether a recent sign-in is required. If so, the ID token must contain the time of the sign-in (`auth_time`). */
  isRecent?: boolean
  /** The requested strength of authentication (`acr_values`). */
  acrValues?: string | undefined
  uiLocales?: string | undefined
}

export interface StartedSignIn {
  url: string
  underWay: Omit<SignInUnderWay, 'expiresAt'>
}

export type SignIn = ReturnType<typeof createSignIn>

/** Thrown if the provider at which users sign in cannot be reached, or does not work. */
export class ProviderUnavailable extends Unavailable {
  override readonly name = 'ProviderUnavailable'
  override readonly description = 'the provider for sign-ins cannot be reached, please try again'
  override readonly textKey = 'error.provider_away'
  override readonly retryAfterSeconds = 10
}

/** Returns a `fetch` with errors that say that the other provider, and not this server, cannot answer. */
export function fromProvider(send: openid.CustomFetch): openid.CustomFetch {
  return async (url, options) => {
    const response = await send(url, options).catch((cause: unknown) => {
      throw new ProviderUnavailable(`the provider for sign-ins cannot be reached: ${String(cause)}`, { cause })
    })
    if (response.status < 500) return response
    const cause = `status ${response.status} at ${new URL(url).pathname}`
    throw new ProviderUnavailable(`the provider for sign-ins answered with ${cause}`, { cause })
  }
}

/** Creates the OpenID Connect client. The provider is discovered at the first sign-in. */
export function createSignIn(needs: SignInNeeds) {
  let discovered: Promise<openid.Configuration> | undefined

  function provider(): Promise<openid.Configuration> {
    discovered ??= discover(needs).catch((cause: unknown) => {
      // openid-client wraps the errors of `fetch` in errors without a reason.
      throw (
        unavailableIn(cause) ?? new ProviderUnavailable(`the provider ${needs.issuer} cannot be discovered`, { cause })
      )
    })
    // A failed discovery is tried again at the next sign-in.
    discovered.catch(() => {
      discovered = undefined
    })
    return discovered
  }

  return {
    async start(
      to: string,
      { asked = false, isRecent = false, acrValues, uiLocales }: SignInWishes,
    ): Promise<StartedSignIn> {
      const codeVerifier = openid.randomPKCECodeVerifier()
      const state = openid.randomState()
      const nonce = openid.randomNonce()
      const url = openid.buildAuthorizationUrl(await provider(), {
        redirect_uri: needs.redirectUri,
        scope: needs.scope,
        state,
        nonce,
        code_challenge: await openid.calculatePKCECodeChallenge(codeVerifier),
        code_challenge_method: 'S256',
        ...(asked && { prompt: 'login' }),
        // With `max_age`, the ID token must contain `auth_time` (OpenID Connect Core §2).
        ...(isRecent && { max_age: '0' }),
        ...(acrValues !== undefined && { acr_values: acrValues }),
        ...(uiLocales !== undefined && { ui_locales: uiLocales }),
      })
      return { url: url.href, underWay: { state, nonce, codeVerifier, to } }
    },

    /**
     * Finishes a sign-in. Resolves to the new session, or to undefined if the person who signed in is not a user of
     * this server.
     * @throws if the authorization response does not belong to this sign-in, or is an error
     */
    async finish(answer: URL, underWay: SignInUnderWay, now: number): Promise<Omit<Session, 'formToken'> | undefined> {
      const tokens = await openid.authorizationCodeGrant(await provider(), answer, {
        expectedState: underWay.state,
        expectedNonce: underWay.nonce,
        pkceCodeVerifier: underWay.codeVerifier,
        idTokenExpected: true,
      })
      const claims = tokens.claims()!
      const admitted = await needs.admit({
        claims,
        idToken: tokens.id_token!,
        userInfo: await openid.fetchUserInfo(await provider(), tokens.access_token, claims.sub),
        accessToken: tokens.access_token,
        scope: tokens.scope,
        expiresIn: tokens.expiresIn() ?? 600,
      })
      if (admitted === undefined) return undefined
      const { expiresIn, ...session } = admitted
      return { ...session, expiresAt: now + expiresIn * 1000 }
    },
  }
}

/** The scope that the device API requires. */
const DECIDE_SCOPE = 'ciba:decide'

/**
 * Accepts every user who signed in at this provider. The access token of the sign-in is used for the device API.
 * @throws if the token lacks the scope for the device API, because the user has changed the scope in the authorization
 *   request
 */
export async function admitOwn({ claims, userInfo, accessToken, scope, expiresIn }: SignedIn): Promise<Admitted> {
  if (scope?.split(' ').includes(DECIDE_SCOPE) !== true) throw new Error(`the access token lacks ${DECIDE_SCOPE}`)
  const name = userInfo.name ?? userInfo.preferred_username ?? claims.sub
  return { userId: claims.sub, name, locale: userInfo.locale, accessToken, expiresIn }
}

async function discover(needs: SignInNeeds): Promise<openid.Configuration> {
  const authenticate = needs.authMethod === 'client_secret_post' ? openid.ClientSecretPost : openid.ClientSecretBasic
  return openid.discovery(
    new URL(needs.issuer),
    needs.clientId,
    { redirect_uris: [needs.redirectUri] },
    authenticate(needs.clientSecret),
    {
      // The issuer is an `http://` URL only if the configuration permits plain http.
      execute: needs.issuer.startsWith('http://') ? [openid.allowInsecureRequests] : [],
      [openid.customFetch]: needs.fetch,
    },
  )
}

/**
 * Returns a `fetch` that sends requests to this provider with `send`. The same function also sends the requests to the
 * device API.
 */
export function fetchFrom(send: SendToServer): openid.CustomFetch {
  return async (url, { method, headers, body }) => {
    const { pathname, search } = new URL(url)
    const answer = await send({
      method: method === 'POST' ? 'POST' : 'GET',
      path: pathname + search,
      headers: headers as Record<string, string>,
      ...(body !== undefined && body !== null && { body: String(body) }),
    })
    if (answer.status === 503) throw new Unavailable('the provider cannot answer now')
    return toResponse(answer.status, answer.headers, answer.text)
  }
}
