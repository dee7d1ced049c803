/** A client that uses the library `openid-client`, and is configured by discovery from the issuer. */
import * as openid from 'openid-client'
import { type RingingClient, type Stage, secrets } from './stage.ts'

/** Resolves to a configured client. It verifies the signatures of ID tokens with the keys at `jwks_uri`. */
export async function discover(
  stage: Stage,
  clientId: string,
  authentication: openid.ClientAuth,
  metadata: Partial<openid.ClientMetadata> = {},
): Promise<openid.Configuration> {
  return openid.discovery(
    new URL(stage.url),
    clientId,
    { id_token_signed_response_alg: 'ES256', ...metadata },
    authentication,
    {
      execute: [openid.allowInsecureRequests, openid.enableNonRepudiationChecks],
    },
  )
}

/** Resolves to a configured client that is one of the test clients. It sends its secret in the Authorization header. */
export function playedBy(stage: Stage, as: RingingClient): Promise<openid.Configuration> {
  return discover(stage, as, openid.ClientSecretBasic(secrets[as]))
}

export type Acknowledgement = openid.BackchannelAuthenticationResponse

/**
 * Polls until the tokens arrive. The first poll is sent at once, because a client need not wait before the first poll.
 */
export function collect(client: openid.Configuration, response: Acknowledgement) {
  const signal = AbortSignal.timeout(3000)
  return openid.pollBackchannelAuthenticationGrant(client, { ...response, interval: 0 }, undefined, { signal })
}

/** Resolves to the OAuth error of a call of `openid-client`. */
export async function refusalOf(call: Promise<unknown>): Promise<{ error: string; status: number }> {
  try {
    await call
  } catch (problem) {
    const { error, status, cause } = problem as { error?: string; status?: number; cause?: unknown }
    if (error !== undefined && status !== undefined) return { error, status }
    throw new Error('the call failed, but not with an OAuth error', { cause: cause ?? problem })
  }
  throw new Error('the call was not refused')
}
