/** Signing users in to the app with OpenID Connect (code and PKCE), at this provider. */
import * as openid from 'openid-client'
import type { SendToServer } from './device-api.ts'
import type { Session, SignInUnderWay } from './session.ts'

export interface SignInNeeds {
  issuer: string
  clientId: string
  clientSecret: string
  redirectUri: string
  /** The provider is asked through the same door as the device API. */
  send: SendToServer
}

export interface StartedSignIn {
  url: string
  underWay: Omit<SignInUnderWay, 'expiresAt'>
}

export type SignIn = ReturnType<typeof createSignIn>

const scope = 'openid profile ciba:decide'

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
    /** @param another whether somebody else wants to sign in than whoever is signed in at the provider */
    async start(
      to: string,
      { another = false, uiLocales }: { another?: boolean; uiLocales?: string | undefined },
    ): Promise<StartedSignIn> {
      const codeVerifier = openid.randomPKCECodeVerifier()
      const state = openid.randomState()
      const nonce = openid.randomNonce()
      const url = openid.buildAuthorizationUrl(await provider(), {
        redirect_uri: needs.redirectUri,
        scope,
        state,
        nonce,
        code_challenge: await openid.calculatePKCECodeChallenge(codeVerifier),
        code_challenge_method: 'S256',
        ...(another && { prompt: 'login' }),
        ...(uiLocales !== undefined && { ui_locales: uiLocales }),
      })
      return { url: url.href, underWay: { state, nonce, codeVerifier, to } }
    },

    /** @throws if the answer is not the one to this sign-in, or the user did not sign in */
    async finish(answer: URL, underWay: SignInUnderWay, now: number): Promise<Omit<Session, 'formToken'>> {
      const tokens = await openid.authorizationCodeGrant(await provider(), answer, {
        expectedState: underWay.state,
        expectedNonce: underWay.nonce,
        pkceCodeVerifier: underWay.codeVerifier,
        idTokenExpected: true,
      })
      const userId = tokens.claims()!.sub
      const user = await openid.fetchUserInfo(await provider(), tokens.access_token, userId)
      return {
        userId,
        name: user.name ?? user.preferred_username ?? userId,
        locale: user.locale,
        accessToken: tokens.access_token,
        expiresAt: now + (tokens.expiresIn() ?? 600) * 1000,
      }
    },
  }
}

async function discover(needs: SignInNeeds): Promise<openid.Configuration> {
  return openid.discovery(
    new URL(needs.issuer),
    needs.clientId,
    { redirect_uris: [needs.redirectUri] },
    openid.ClientSecretBasic(needs.clientSecret),
    {
      // The request does not leave the process; whether the issuer is https was decided with the configuration.
      execute: needs.issuer.startsWith('http://') ? [openid.allowInsecureRequests] : [],
      [openid.customFetch]: asFetch(needs.send),
    },
  )
}

function asFetch(send: SendToServer): openid.CustomFetch {
  return async (url, { method, headers, body }) => {
    const { pathname, search } = new URL(url)
    const answer = await send({
      method: method === 'POST' ? 'POST' : 'GET',
      path: pathname + search,
      headers: headers as Record<string, string>,
      ...(body !== undefined && body !== null && { body: String(body) }),
    })
    const empty = answer.status === 204 || answer.status === 304
    return new Response(empty ? null : answer.text, { status: answer.status, headers: answer.headers })
  }
}
