/**
 * Stores what a user has consented to. A consent is first kept in the result of oidc-provider's interaction. It is
 * added to the grant when the browser returns from the sign-in pages and no further page has to be shown. Until then
 * the user can cancel the sign-in, which leaves the grant unchanged.
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
 * Resolves to the grant that a user has given to a client, or undefined if there is none. What the user has consented
 * to in the current sign-in is added, but not stored yet. For the consent app, a grant is stored without asking the
 * user.
 */
export async function loadGrant(ctx: KoaContextWithOIDC, ownClient: string): Promise<Grant | undefined> {
  const { oidc } = ctx
  const { session, client, provider, params } = oidc
  const [accountId, clientId] = [session?.accountId, client!.clientId]
  forgetConsentOfOthers(ctx)
  // Pages of the operator (`oidc.interactions`) store the grant themselves and set `consent.grantId`, as oidc-provider
  // documents it.
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
 * Returns the policy with a further prompt at its end. oidc-provider checks this prompt only if no other prompt is
 * needed, before it issues a code. The check stores the grant with the user's consent. The prompt itself is never
 * shown.
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
  // oidc-provider has already copied the id of the grant to the session. A new grant had no id then, because a grant
  // gets its id when it is saved. So the id is copied again here.
  session.ensureClientContainer(client!.clientId)
  session.grantIdFor(client!.clientId, grantId)
}

/**
 * Returns what the user has consented to in the current sign-in, or undefined if the user has consented to nothing.
 * Also undefined if the consent page is the operator's own, because such pages store the grant themselves.
 */
function consentOf({ oidc }: KoaContextWithOIDC): Consent | undefined {
  const consent = oidc.result?.consent
  return consent !== undefined && 'scopes' in consent ? (consent as unknown as Consent) : undefined
}

/**
 * Removes the consent from the result of the sign-in if another user has given it. This happens if the sign-in page is
 * shown again after a consent, and another user signs in there. That user is then asked for consent.
 */
function forgetConsentOfOthers(ctx: KoaContextWithOIDC): void {
  const { oidc } = ctx
  const consent = consentOf(ctx)
  if (consent !== undefined && consent.accountId !== oidc.session?.accountId) delete oidc.result!.consent
}
