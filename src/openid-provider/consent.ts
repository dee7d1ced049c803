/**
 * The grant of a session for a client. What a user consents to is kept in the result of the sign-in (the interaction of
 * oidc-provider), and is added to the grant when the sign-in is continued and nothing else is asked of the user. Until then
 * the user can cancel, at the consent page or at a further sign-in page, and the grant stays as it was.
 */
import { interactionPolicy, type KoaContextWithOIDC, type Provider } from 'oidc-provider'

/** What a user has consented to. */
export interface Consent {
  accountId: string
  scopes: string[]
  claims: string[]
}

type Grant = InstanceType<Provider['Grant']>

/**
 * Resolves to the grant that a user has given to a client, or undefined if there is none. What the user has consented to in
 * the current sign-in is added, but not stored. The consent app gets a grant without asking the user.
 */
export async function loadGrant(ctx: KoaContextWithOIDC, ownClient: string): Promise<Grant | undefined> {
  const { oidc } = ctx
  const { session, client, provider, params } = oidc
  const [accountId, clientId] = [session?.accountId, client!.clientId]
  forgetConsentOfOthers(ctx)
  // Pages of the operator (`oidc.interactions`) store the grant themselves and name it, as oidc-provider's documentation says.
  const grantId = oidc.result?.consent?.grantId ?? session?.grantIdFor(clientId)
  const existing = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  if (accountId === undefined) return existing
  const consent = consentOf(ctx)
  if (consent !== undefined) {
    const grant = existing ?? new provider.Grant({ accountId, clientId })
    grant.addOIDCScope(consent.scopes.join(' '))
    grant.addOIDCClaims(consent.claims)
    return grant
  }
  if (clientId !== ownClient || existing !== undefined) return existing
  const grant = new provider.Grant({ accountId, clientId })
  grant.addOIDCScope(String(params?.scope ?? ''))
  await grant.save()
  return grant
}

/**
 * Returns a policy with one more prompt at its end, which is never shown: oidc-provider comes to it if no other prompt is
 * needed, before it issues a code. There the grant is stored, with what the user has consented to.
 */
export function storingConsent(policy: readonly interactionPolicy.Prompt[]): interactionPolicy.Prompt[] {
  const { Check, Prompt } = interactionPolicy
  const store = new Check('consent_stored', 'the consent is stored', 'interaction_required', async (ctx) => {
    await storeConsent(ctx)
    return Check.NO_NEED_TO_PROMPT
  })
  return [...policy, new Prompt({ name: 'store_consent' }, store)]
}

async function storeConsent(ctx: KoaContextWithOIDC): Promise<void> {
  const { session, client } = ctx.oidc
  const grant = ctx.oidc.entities.Grant
  if (consentOf(ctx) === undefined || grant === undefined || session === undefined) return
  const grantId = await grant.save()
  // oidc-provider has done this before, if the grant was stored.
  session.ensureClientContainer(client!.clientId)
  session.grantIdFor(client!.clientId, grantId)
}

/** Returns what the user has consented to in the current sign-in. Pages of the operator store a grant by themselves. */
function consentOf({ oidc }: KoaContextWithOIDC): Consent | undefined {
  const consent = oidc.result?.consent
  return consent !== undefined && 'scopes' in consent ? (consent as unknown as Consent) : undefined
}

/**
 * Removes the consent of another user: after the consent, a sign-in page may have been shown again, at which somebody else
 * has signed in. This user is then asked.
 */
function forgetConsentOfOthers(ctx: KoaContextWithOIDC): void {
  const { oidc } = ctx
  const consent = consentOf(ctx)
  if (consent !== undefined && consent.accountId !== oidc.session?.accountId) delete oidc.result!.consent
}
