/**
 * Adds `at_hash` to the ID tokens that oidc-provider issues for its own grant types, also for refresh tokens (OpenID
 * Connect Core §3.1.3.6).
 */
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'

interface SavedToken {
  save(): Promise<string>
}

interface IdToken {
  ctx: KoaContextWithOIDC | undefined
  set(claim: string, value: unknown): void
  issue(options: { use: string }): Promise<string>
}

/**
 * Makes ID tokens contain the hash of the access token of the same response. oidc-provider itself leaves the hash out
 * of the ID tokens of its token endpoint. Without the hash, a client cannot check that the two tokens belong together.
 */
export function hashAccessTokens(provider: Provider): void {
  const values = new WeakMap<object, string>()
  const accessToken = provider.AccessToken.prototype as unknown as SavedToken
  const { save } = accessToken
  accessToken.save = async function saveAndRemember(this: SavedToken) {
    const value = await save.call(this)
    values.set(this, value)
    return value
  }
  const idToken = provider.IdToken.prototype as unknown as IdToken
  const { issue } = idToken
  idToken.issue = function issueWithHash(this: IdToken, options) {
    // `ctx` is undefined if `issue-tokens.ts` issues the ID token. That code sets `at_hash` itself.
    const issued = this.ctx?.oidc.entities.AccessToken
    const value = issued === undefined ? undefined : values.get(issued)
    if (options.use === 'idtoken' && value !== undefined) this.set('at_hash', value)
    return issue.call(this, options)
  }
}
