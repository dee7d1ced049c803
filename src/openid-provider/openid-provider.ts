/**
 * Everything in OAuth and OpenID Connect that is not CIBA: oidc-provider, configured, on our database. Only its public
 * API is used.
 */
import { Provider } from 'oidc-provider'
import { CIBA_GRANT } from '../client/metadata/client-metadata.ts'
import { type AuthorizationServerNeeds, configurationOf } from './configuration.ts'
import { reportErrors, reportTokens } from './events.ts'
import { markProofsInOneStep } from './forwarded-dpop-proof.ts'
import {
  agreeAboutProofs,
  answerNotFound,
  compareHashedSecrets,
  narrowKeySet,
  readOnlyWhatWasAsked,
} from './middlewares.ts'
import { endWholeSession, endWithoutSession } from './sign-out-page.ts'
import type { SigningKeyWatch } from './signing-keys/signing-key-watch.ts'

export type { Provider }

/** The oidc-provider of the moment. Ask again for each request, and keep to one answer in it. */
export type CurrentProvider = () => Provider

/**
 * oidc-provider takes its keys when it is made, so when they change another one takes its place. Requests under way end
 * where they began. All that it remembers is in the database, or made from the configuration.
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
  const provider = new Provider(needs.issuer, configurationOf(needs))
  // Its URLs are made from what the hand-over tells it: the issuer, whatever Host a caller claims.
  provider.proxy = true
  // It lists the grant (MD-2); requests with it never reach oidc-provider.
  provider.registerGrantType(CIBA_GRANT, () => {
    throw new Error('the CIBA grant is answered before oidc-provider')
  })
  answerNotFound(provider)
  endWithoutSession(provider)
  endWholeSession(provider, needs.endSession)
  readOnlyWhatWasAsked(provider)
  compareHashedSecrets(provider, needs.vault)
  narrowKeySet(provider, needs)
  agreeAboutProofs(provider, needs.dpop)
  markProofsInOneStep(provider)
  reportErrors(provider, needs.log)
  reportTokens(provider, needs.audit)
  return provider
}
