/**
 * The phone app. It signs users in with the library `openid-client` and a browser, and decides requests with the access
 * token.
 */
import * as openid from 'openid-client'
import { type Browser, openBrowser, type Page } from './browser.ts'
import { discover } from './foreign-client.ts'
import { ana, type Stage } from './stage.ts'

export interface SignInStarted {
  app: openid.Configuration
  browser: Browser
  /** The sign-in page. */
  page: Page
  /** Exchanges the authorization code. @param cameBack the URL to which the browser was redirected */
  tokens(cameBack: string): ReturnType<typeof openid.authorizationCodeGrant>
}

const callback = 'http://127.0.0.1/callback'

export async function startSignIn(
  stage: Stage,
  parameters: Record<string, string> = {},
  client: { id?: string; authentication?: openid.ClientAuth; dpopKeys?: openid.CryptoKeyPair } = {},
  browser: Browser = openBrowser(stage.url),
): Promise<SignInStarted> {
  const app = await discover(stage, client.id ?? 'phone-app', client.authentication ?? openid.None())
  const pkceCodeVerifier = openid.randomPKCECodeVerifier()
  const expectedState = openid.randomState()
  const expectedNonce = openid.randomNonce()
  const url = openid.buildAuthorizationUrl(app, {
    redirect_uri: callback,
    scope: 'openid ciba:decide',
    code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    state: expectedState,
    nonce: expectedNonce,
    ...parameters,
  })
  const dpop = client.dpopKeys && { DPoP: openid.getDPoPHandle(app, client.dpopKeys) }
  return {
    app,
    browser,
    page: await browser.open(url.href),
    tokens: (cameBack) =>
      openid.authorizationCodeGrant(
        app,
        new URL(cameBack),
        { pkceCodeVerifier, expectedState, expectedNonce },
        {},
        dpop,
      ),
  }
}

/** Signs a user in, by default Ana. Resolves to the tokens. */
export async function signIn(
  stage: Stage,
  who: { username: string; password: string } = ana,
  parameters: Record<string, string> = {},
  client: Parameters<typeof startSignIn>[2] = {},
) {
  const { browser, page, tokens } = await startSignIn(stage, parameters, client)
  const consent = await browser.submit(page, { name: who.username, password: who.password })
  const end = await browser.submit(consent)
  return tokens(end.url)
}

/** Resolves to `Authorization: Bearer …` for a user who has signed in. */
export async function bearerOf(...signedIn: Parameters<typeof signIn>): Promise<string> {
  return `Bearer ${(await signIn(...signedIn)).access_token}`
}

/**
 * Signs a user in, and stops when the app has an authorization code. The test itself exchanges the code.
 *
 * @param parameters additional parameters of the authorization request
 */
export async function codeFor(
  stage: Stage,
  who: { username: string; password: string },
  browser: Browser = openBrowser(stage.url),
  parameters: Record<string, string> = {},
) {
  const code_verifier = openid.randomPKCECodeVerifier()
  const asking = {
    client_id: 'phone-app',
    redirect_uri: callback,
    response_type: 'code',
    scope: 'openid ciba:decide',
    code_challenge: await openid.calculatePKCECodeChallenge(code_verifier),
    code_challenge_method: 'S256',
    ...parameters,
  }
  let page = await browser.open(`${stage.url}/oauth/authorize?${new URLSearchParams(asking)}`)
  if (page.text.includes('name="password"')) {
    page = await browser.submit(page, { name: who.username, password: who.password })
  }
  if (!page.url.startsWith(callback)) page = await browser.submit(page)
  const code = new URL(page.url).searchParams.get('code')
  if (code === null) throw new Error(`no code: ${page.url} ${page.text}`)
  const form = { grant_type: 'authorization_code', client_id: 'phone-app', redirect_uri: callback, code, code_verifier }
  return {
    form,
    exchange: (more: Record<string, string> = {}) => stage.post('/oauth/token', { ...more, ...form }),
  }
}
