/** Decides when users must sign in again, and which clients need consent. */
import { interactionPolicy, type KoaContextWithOIDC, type Provider } from 'oidc-provider'
import { acceptsOnlyPasskey, PASSKEY_ACR } from '../user/passkey/passkey-strength.ts'

/**
 * Returns oidc-provider's own policy, with two more reasons why a user must sign in: the signed-in user was removed or
 * disabled, or the client requires a passkey and the user signed in with a password.
 */
export function signInPolicy(): interactionPolicy.DefaultPolicy {
  const { Check, base } = interactionPolicy
  const policy = base()
  policy.get('login')!.checks.add(
    new Check('account_gone', 'the user who was signed in cannot sign in any more', 'login_required', ({ oidc }) => {
      const gone = oidc.session?.accountId !== undefined && oidc.account === undefined
      return gone ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT
    }),
  )
  policy.get('login')!.checks.add(
    new Check('passkey_required', 'a sign-in with a passkey is required', 'login_required', ({ oidc }) => {
      const needed = acceptsOnlyPasskey(oidc.params?.acr_values) && oidc.acr !== PASSKEY_ACR
      return needed ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT
    }),
  )
  return policy
}

/** What a user has consented to on the page of an interaction. */
export interface Consent {
  accountId: string
  scopes: string[]
  claims: string[]
}

/**
 * Resolves to the grant that a user has given to a client, or undefined if there is none. If the user has just consented,
 * what was asked for is added to the grant of the session, or to a new grant. The consent app gets a grant without asking
 * the user.
 */
export async function loadGrant(
  ctx: KoaContextWithOIDC,
  ownClient: string,
): Promise<InstanceType<Provider['Grant']> | undefined> {
  const { session, client, provider, result, params } = ctx.oidc
  const { accountId } = session ?? {}
  const { clientId } = client!
  // Pages of the operator (`oidc.interactions`) store the grant themselves and name it, as oidc-provider's documentation says.
  const grantId = result?.consent?.grantId ?? session?.grantIdFor(clientId)
  const existing = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  if (accountId === undefined) return existing
  const consent = result?.consent as Consent | undefined
  const isOwn = clientId === ownClient && existing === undefined
  // The browser may have signed in as another user since the consent.
  if (consent?.accountId !== accountId && !isOwn) return existing
  const theirs = existing?.accountId === accountId ? existing : new provider.Grant({ accountId, clientId })
  theirs.addOIDCScope(isOwn ? String(params?.scope ?? '') : consent!.scopes.join(' '))
  theirs.addOIDCClaims(isOwn ? [] : consent!.claims)
  await theirs.save()
  return theirs
}
