/** Decides when users must sign in again. */
import { interactionPolicy } from 'oidc-provider'
import { acceptsOnlyPasskey, PASSKEY_ACR } from '../user/passkey/passkey-strength.ts'

/**
 * Returns oidc-provider's own policy, with two more reasons why a user must sign in. First, if the signed-in user was
 * removed or disabled. Second, if the client requires a passkey and the user signed in with a password.
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
