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

/**
 * Resolves to the grant that a user has given to a client, or undefined if there is none. The consent app gets a grant
 * without asking the user.
 */
export async function loadGrant(
  ctx: KoaContextWithOIDC,
  ownClient: string,
): Promise<InstanceType<Provider['Grant']> | undefined> {
  const { session, client, provider, result, params } = ctx.oidc
  const clientId = client!.clientId
  const grantId = (result?.consent as { grantId?: string } | undefined)?.grantId ?? session?.grantIdFor(clientId)
  const existing = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  if (clientId !== ownClient || existing !== undefined || session?.accountId === undefined) return existing
  const grant = new provider.Grant({ accountId: session.accountId, clientId })
  grant.addOIDCScope(String(params?.scope ?? ''))
  await grant.save()
  return grant
}
