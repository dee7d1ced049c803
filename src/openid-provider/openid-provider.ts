/**
 * All of OAuth and OpenID Connect that is not CIBA: oidc-provider, configured, on our database. Only its public API is
 * used.
 */
import { Provider } from 'oidc-provider'
import { CIBA_GRANT } from '../client/metadata/client-metadata.ts'
import { type AuthorizationServerNeeds, configurationOf } from './configuration.ts'
import { reportErrors, reportTokens } from './events.ts'
import { markProofsInOneStep } from './forwarded-dpop-proof.ts'
import {
  answerNotFound,
  compareHashedSecrets,
  configureDpop,
  narrowKeySet,
  readOnlyWhatWasAsked,
} from './middlewares.ts'
import { endWholeSession, endWithoutSession } from './sign-out-page.ts'
import type { SigningKeyWatch } from './signing-keys/signing-key-watch.ts'

export type { Provider }

/** Returns the current instance of oidc-provider. Call it once for each request, and use that instance throughout. */
export type CurrentProvider = () => Provider

/**
 * oidc-provider reads its keys only when it is created, so a new instance replaces it when they change. Requests in progress
 * finish on the old instance. An instance has no state that is not in the database or made from the configuration.
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
  // It builds URLs from the headers that forward-request.ts sets, not from the Host that a caller sends.
  provider.proxy = true
  // Registered so that the metadata lists the grant; requests with it never reach oidc-provider.
  provider.registerGrantType(CIBA_GRANT, () => {
    throw new Error('the CIBA grant is answered before oidc-provider')
  })
  answerNotFound(provider)
  endWithoutSession(provider)
  endWholeSession(provider, needs.endSession)
  readOnlyWhatWasAsked(provider)
  compareHashedSecrets(provider, needs.vault)
  narrowKeySet(provider, needs)
  configureDpop(provider, needs.dpop)
  markProofsInOneStep(provider)
  reportErrors(provider, needs.log)
  reportTokens(provider, needs.audit)
  return provider
}
