/** Makes responses of oidc-provider like those of our own endpoints, and removes keys that should not be published. */
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { wasProofWithheld } from './oidc-call-dpop-proof.ts'
import { resumePathsOf } from './oidc-call-endpoint.ts'
import { paths } from './paths.ts'
import type { SigningKeys } from './signing-keys/signing-keys.ts'

/** Adds a body to the 404 response that oidc-provider leaves empty. */
export function answerNotFound(provider: Provider): void {
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.status !== 404 || ctx.body !== undefined) return
    // Koa sets the status to 200 when a body is set.
    ctx.body = { error: 'not_found', error_description: 'there is nothing at this address' }
    ctx.status = 404
    ctx.set('Cache-Control', 'no-store')
  })
}

/**
 * Removes the query from the address to which a browser returns from the sign-in pages. The query has no meaning there,
 * because the parameters are those of the stored authorization request. If the query contained a `client_id`,
 * oidc-provider would fail when it has to report an error.
 */
export function readOnlyWhatWasAsked(provider: Provider): void {
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith(`${paths.authorization}/`)) ctx.search = ''
    await next()
  })
}

/**
 * A browser may request the address to which the sign-in pages return (`resumePathsOf`) before its sign-in has a
 * result. This function then redirects the browser to its sign-in page. Without the redirect, oidc-provider would
 * remove the stored sign-in and store a new one at each such call.
 *
 * @param signed whether the cookie that identifies the sign-in has a signature. If undefined, it has a signature if
 *   oidc-provider has keys for cookies
 */
export function returnToSignInPage(
  provider: Provider,
  { pageOf, signed }: { pageOf(uid: string): string; signed: boolean | undefined },
): void {
  const prefixes = resumePathsOf(provider).map((path) => path.replace(/:uid$/, ''))
  provider.use(async (ctx, next) => {
    if (!prefixes.some((prefix) => ctx.path.startsWith(prefix))) return next()
    const uid = ctx.cookies.get(provider.cookieName('resume'), signed === undefined ? undefined : { signed })
    const interaction = uid ? await provider.Interaction.find(uid) : undefined
    if (interaction === undefined || interaction.result !== undefined) return next()
    ctx.set('Cache-Control', 'no-store')
    ctx.status = 303
    ctx.redirect(pageOf(interaction.uid))
  })
}

/**
 * Makes the metadata document contain our own members. oidc-provider's setting `discovery` only adds members that are
 * missing, so it cannot correct the members that oidc-provider derives from its other settings.
 */
export function announce(provider: Provider, membersFor: (document: object) => object): void {
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route !== 'discovery' || ctx.status !== 200) return
    const document = ctx.body as object
    ctx.body = { ...document, ...membersFor(document) }
  })
}

/**
 * Removes from the published key set the keys that only verify `id_token_hint`. Keys that the operator has added stay.
 */
export function narrowKeySet(
  provider: Provider,
  { keys, keySetMaxAge }: { keys: SigningKeys; keySetMaxAge: number },
): void {
  const published = new Set(keys.published.map(({ kid }) => kid))
  const hidden = new Set(keys.public.map(({ kid }) => kid).filter((kid) => !published.has(kid)))
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route !== 'jwks' || ctx.status !== 200) return
    const { keys } = ctx.body as { keys: { kid: string }[] }
    ctx.body = { keys: keys.filter(({ kid }) => !hidden.has(kid)) }
    ctx.set('Cache-Control', `public, max-age=${keySetMaxAge}`)
  })
}

/**
 * Makes the responses to calls with DPoP the same as at our own endpoints. They contain a nonce only if nonces are
 * required. If the proof is missing, the error is `invalid_dpop_proof`.
 */
export function configureDpop(provider: Provider, { requireNonce }: { requireNonce: boolean }): void {
  provider.use(async (ctx, next) => {
    await next()
    if (!requireNonce) ctx.remove('DPoP-Nonce')
    const { client, route } = (ctx as KoaContextWithOIDC).oidc ?? {}
    const isMissing = ctx.get('DPoP') === '' && !wasProofWithheld(ctx.req)
    const lacksProof = route === 'token' && client?.dpopBoundAccessTokens === true && isMissing
    if (lacksProof && (ctx.body as { error?: string } | undefined)?.error === 'invalid_grant') {
      ctx.body = { error: 'invalid_dpop_proof', error_description: 'this client must send a DPoP proof' }
    }
  })
}
