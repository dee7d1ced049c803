/** Makes responses of oidc-provider like those of our own endpoints, and removes keys that should not be published. */
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { sameSecret, type Vault } from '../platform/crypto.ts'
import { type Profile, profiles } from '../platform/security-profile.ts'
import { wasProofWithheld } from './forwarded-dpop-proof.ts'
import { resumePathsOf } from './forwarded-endpoint.ts'
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
 * Removes the query from the address to which a user returns from the sign-in pages. The query has no meaning there, because
 * the stored authorization request is continued. But oidc-provider would fail if it had to report an error and the query
 * named a client.
 */
export function readOnlyWhatWasAsked(provider: Provider): void {
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith(`${paths.authorization}/`)) ctx.search = ''
    await next()
  })
}

/**
 * Redirects a browser back to its sign-in page if it comes to the address after the sign-in pages, and its sign-in has no
 * result yet. oidc-provider would remove the stored sign-in and store a new one, for each call of a caller that has not
 * signed in.
 *
 * @param signed whether the cookie has a signature; undefined means that it has one if oidc-provider has keys for cookies
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
 * Makes oidc-provider compare hashes of client secrets: the keyed hash of the secret that a client sends, and the
 * stored hash.
 */
export function compareHashedSecrets(provider: Provider, vault: Vault): void {
  const prototype = provider.Client.prototype as { compareClientSecret(actual: string): boolean }
  prototype.compareClientSecret = function compareClientSecret(this: { clientSecret?: string }, actual) {
    return sameSecret(vault.keyedHash(actual), this.clientSecret ?? '')
  }
}

/**
 * Makes oidc-provider accept the same values of `aud` in client assertions as our own endpoints (CIBA Core §7.1), besides
 * the address of the endpoint that is called.
 */
export function acceptAudiences(provider: Provider, audiences: readonly string[]): void {
  const prototype = provider.OIDCContext.prototype as { clientJwtAuthExpectedAudience(): Set<string> }
  const usual = prototype.clientJwtAuthExpectedAudience
  prototype.clientJwtAuthExpectedAudience = function clientJwtAuthExpectedAudience() {
    return new Set([...usual.call(this), ...audiences])
  }
}

/** Removes keys that only verify `id_token_hint` from the published key set. Keys that the operator has added stay. */
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
 * Removes client authentication methods from the metadata document that the profile does not allow. oidc-provider lists
 * every method that it accepts, and the consent app may use a method that other clients cannot register.
 */
export function narrowMethods(provider: Provider, { clientAuthentication }: Profile): void {
  const refused = profiles.core.clientAuthentication.filter((method) => !clientAuthentication.includes(method))
  if (refused.length === 0) return
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route !== 'discovery' || ctx.status !== 200) return
    const metadata = ctx.body as { token_endpoint_auth_methods_supported: string[] }
    const offered = metadata.token_endpoint_auth_methods_supported.filter((method) => !refused.includes(method))
    ctx.body = { ...metadata, token_endpoint_auth_methods_supported: offered }
  })
}

/**
 * Makes DPoP responses the same as at our own endpoints: a nonce only if nonces are required, and the error
 * `invalid_dpop_proof` if the proof is missing.
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
