/**
 * Decides which key the tokens that a call requests are bound to. This is decided before a poll is counted or an
 * authentication request is accepted, so that a call without the required key is refused before it has any other
 * effect.
 */

import { OAuthError } from '../../platform/oauth-error.ts'
import type { ClientCertificate } from '../certificate/client-certificate.ts'
import type { Client } from '../client.ts'
import type { Confirmation } from './confirmation.ts'
import type { Proofs, SentProof } from './dpop-proof.ts'
import { certificateBinding, isBoundToCertificate } from './mtls-constraint.ts'

export interface BindingNeeds {
  proofs: Proofs
  /** Whether the deployment issues only tokens that are bound to a key, and no bearer tokens. */
  boundTokensOnly: boolean
}

/** The keys that a call contains: in a client certificate, in a DPoP proof, or in both. */
export interface ShownKeys {
  certificate?: ClientCertificate | undefined
  proof: SentProof
}

/** Resolves to the key that the tokens of the client are bound to. @throws {OAuthError} */
export type SenderConstraint = (shown: ShownKeys, client: Client) => Promise<Confirmation>

/**
 * Returns the function that decides the key. A token is bound to one key (RFC 7800 §3.1). It is bound to the client
 * certificate if the registration of the client or the deployment requires this. If not, it is bound to the key of the
 * DPoP proof. If the client sends no proof and is not registered for DPoP, the token is a bearer token.
 */
export function createSenderConstraint({ proofs, boundTokensOnly }: BindingNeeds): SenderConstraint {
  return async ({ certificate, proof }, client) => {
    if (!isBoundToCertificate(client, boundTokensOnly)) return { dpopKey: await dpopKeyOf(client, proof, proofs) }
    if (proof.header === undefined) return { certificate: certificateBinding(certificate) }
    throw new OAuthError('invalid_request', "this client's tokens are bound to its certificate: send no DPoP proof")
  }
}

/**
 * Returns the key of the DPoP proof. A client may send a proof even if it is not registered for DPoP. Its tokens are
 * then bound to the key of the proof.
 */
function dpopKeyOf({ metadata }: Client, proof: SentProof, proofs: Proofs): Promise<string> | undefined {
  if (proof.header !== undefined) return proofs.keyOf(proof)
  if (metadata.dpop_bound_access_tokens !== true) return undefined
  throw new OAuthError('invalid_dpop_proof', "this client's tokens are bound to its DPoP key: send a proof")
}
