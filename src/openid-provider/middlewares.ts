/** Where oidc-provider answers otherwise than the rest of the server, or knows more than it should tell. */
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { sameSecret, type Vault } from '../platform/crypto.ts'
import { wasProofWithheld } from './forwarded-dpop-proof.ts'
import { paths } from './paths.ts'
import type { SigningKeys } from './signing-keys/signing-keys.ts'

/** What is at none of its addresses, oidc-provider leaves without a word of its own. */
export function answerNotFound(provider: Provider): void {
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.status !== 404 || ctx.body !== undefined) return
    // Setting a body makes it a 200.
    ctx.body = { error: 'not_found', error_description: 'there is nothing at this address' }
    ctx.status = 404
    ctx.set('Cache-Control', 'no-store')
  })
}

/**
 * Where a user comes back from signing in, an authorization request goes on that was read before. A query there means
 * nothing, and oidc-provider fails when it has an error to tell and the query names a client.
 */
export function readOnlyWhatWasAsked(provider: Provider): void {
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith(`${paths.authorization}/`)) ctx.search = ''
    await next()
  })
}

/** oidc-provider would compare what a client sends with what is kept; we keep a keyed hash, so the hashes are compared. */
export function compareHashedSecrets(provider: Provider, vault: Vault): void {
  const prototype = provider.Client.prototype as { compareClientSecret(actual: string): boolean }
  prototype.compareClientSecret = function compareClientSecret(this: { clientSecret?: string }, actual) {
    return sameSecret(vault.keyedHash(actual), this.clientSecret ?? '')
  }
}

/** Keys that only verify hints are oidc-provider's to know, but no client's. Other keys, of the operator's own, stay. */
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

/** Where oidc-provider answers otherwise than our own endpoints: nonces nobody has asked for, and a missing proof. */
export function agreeAboutProofs(provider: Provider, { requireNonce }: { requireNonce: boolean }): void {
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
