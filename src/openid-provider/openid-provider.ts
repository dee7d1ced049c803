/**
 * The parts of OAuth and OpenID Connect that are not CIBA: oidc-provider with our configuration and our database. No
 * internal module of oidc-provider is imported. A few methods of its classes are overridden.
 */
import type { Provider } from 'oidc-provider'
import { CIBA_GRANT } from '../client/metadata/client-metadata.ts'
import { hashAccessTokens } from './access-token-hash.ts'
import { type AuthorizationServerNeeds, configurationOf, signInPageAt } from './configuration.ts'
import { announcedMembers } from './discovery.ts'
import { reportErrors, reportTokens } from './events.ts'
import {
  announce,
  answerNotFound,
  configureDpop,
  narrowKeySet,
  readOnlyWhatWasAsked,
  returnToSignInPage,
} from './middlewares.ts'
import { trustOurAuthentication } from './oidc-call-client.ts'
import { markProofsInOneStep } from './oidc-call-dpop-proof.ts'
import { withAtomicGrants } from './oidc-call-transaction.ts'
import { endWholeSession, endWithoutSession } from './sign-out-page.ts'
import type { SigningKeyWatch } from './signing-keys/signing-key-watch.ts'
import { nameGrants } from './used-refresh-tokens.ts'

export type { Provider }

/**
 * Returns the current instance of oidc-provider. Call this function once for each request, and use the same instance
 * for the whole request.
 */
export type CurrentProvider = () => Provider

/**
 * Creates the current instance of oidc-provider. An instance reads the signing keys only when it is created, so a new
 * instance replaces it when the keys change. Requests in progress finish on the old instance. Nothing is lost, because
 * all state of an instance is in the database or comes from the configuration.
 */
export function createCurrentProvider(
  keys: Pick<SigningKeyWatch, 'use'>,
  needs: Omit<AuthorizationServerNeeds, 'keys'>,
): CurrentProvider {
  let current: Provider
  keys.use((keys) => {
    current = createProvider({ ...needs, keys })
  })
  return () => current
}

function createProvider(needs: AuthorizationServerNeeds): Provider {
  const configuration = configurationOf(needs)
  const provider = new (withAtomicGrants(needs.models))(needs.issuer, configuration)
  // oidc-provider builds URLs from the `x-forwarded-*` headers that `oidc-call.ts` sets, and not from the `Host` header
  // of the caller.
  provider.proxy = true
  // The CIBA grant is registered only so that the metadata document lists it. Requests with this grant type never reach
  // oidc-provider.
  provider.registerGrantType(CIBA_GRANT, () => {
    throw new Error('the CIBA grant is answered before oidc-provider')
  })
  answerNotFound(provider)
  endWithoutSession(provider)
  endWholeSession(provider, needs.endSession)
  readOnlyWhatWasAsked(provider)
  // If the operator has configured `interactions`, the sign-in pages may have other addresses, and a browser may return
  // from them although no page has stored a result. So the browser is then not redirected.
  if (needs.extra.interactions === undefined) {
    returnToSignInPage(provider, { pageOf: signInPageAt(needs.issuer), signed: configuration.cookies?.short?.signed })
  }
  hashAccessTokens(provider)
  nameGrants(provider, needs)
  trustOurAuthentication(provider)
  announce(provider, (document) => announcedMembers(document, needs))
  narrowKeySet(provider, needs)
  configureDpop(provider, needs.dpop)
  markProofsInOneStep(provider)
  reportErrors(provider, needs.log)
  reportTokens(provider, needs.audit)
  return provider
}
