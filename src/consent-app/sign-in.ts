/** Signing users in to the app with OpenID Connect (code and PKCE), at this provider or at another one. */
import * as openid from 'openid-client'
import { toResponse } from '../platform/http/fetch.ts'
import { Unavailable } from '../platform/http/unavailable.ts'
import type { SendToServer } from './device-api.ts'
import type { Session, SignInUnderWay } from './session.ts'

export interface SignInNeeds {
  issuer: string
  clientId: string
  clientSecret: string
  redirectUri: string
  scope: string
  /** How the provider is reached. */
  fetch: openid.CustomFetch
  /** Who somebody is that signed in, and with which token they ask the device API. Nothing: not one of our users. */
  admit(signedIn: SignedIn): Promise<Admitted | undefined>
}

export interface SignedIn {
  /** Of the ID token, which has been checked. */
  claims: openid.IDToken
  idToken: string
  userInfo: openid.UserInfoResponse
  accessToken: string
  /** Seconds. */
  expiresIn: number
}

export type Admitted = Pick<Session, 'userId' | 'name' | 'locale' | 'accessToken'> & { expiresIn: number }

export interface SignInWishes {
  /** Whether the user is to be asked, even if the provider knows this browser: somebody else comes, or has to show it again. */
  asked?: boolean
  /** How strongly they are to be authenticated. */
  acrValues?: string | undefined
  uiLocales?: string | undefined
}

export interface StartedSignIn {
  url: string
  underWay: Omit<SignInUnderWay, 'expiresAt'>
}

export type SignIn = ReturnType<typeof createSignIn>

export function createSignIn(needs: SignInNeeds) {
  let discovered: Promise<openid.Configuration> | undefined

  function provider(): Promise<openid.Configuration> {
    discovered ??= discover(needs)
    // A provider that could not be reached once is asked again the next time.
    discovered.catch(() => {
      discovered = undefined
    })
    return discovered
  }

  return {
    async start(to: string, { asked = false, acrValues, uiLocales }: SignInWishes): Promise<StartedSignIn> {
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
        ...(acrValues !== undefined && { acr_values: acrValues }),
        ...(uiLocales !== undefined && { ui_locales: uiLocales }),
      })
      return { url: url.href, underWay: { state, nonce, codeVerifier, to } }
    },

    /**
     * Answers nothing if whoever signed in is not one of our users.
     * @throws if the answer is not the one to this sign-in, or nobody signed in
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
        expiresIn: tokens.expiresIn() ?? 600,
      })
      if (admitted === undefined) return undefined
      const { expiresIn, ...session } = admitted
      return { ...session, expiresAt: now + expiresIn * 1000 }
    },
  }
}

/** At this provider the user's own access token is the one for the device API. */
export async function admitOwn({ claims, userInfo, accessToken, expiresIn }: SignedIn): Promise<Admitted> {
  const name = userInfo.name ?? userInfo.preferred_username ?? claims.sub
  return { userId: claims.sub, name, locale: userInfo.locale, accessToken, expiresIn }
}

async function discover(needs: SignInNeeds): Promise<openid.Configuration> {
  return openid.discovery(
    new URL(needs.issuer),
    needs.clientId,
    { redirect_uris: [needs.redirectUri] },
    openid.ClientSecretBasic(needs.clientSecret),
    {
      // Whether http will do was decided with the configuration.
      execute: needs.issuer.startsWith('http://') ? [openid.allowInsecureRequests] : [],
      [openid.customFetch]: needs.fetch,
    },
  )
}

/** The provider behind the same door as the device API. */
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
