/** Whose key the tokens of a call are bound to: decided before anything is accounted for or used up (DP-11, ML-10). */

import { OAuthError } from '../../platform/oauth-error.ts'
import type { ClientCertificate } from '../certificate/client-certificate.ts'
import type { Client } from '../client.ts'
import type { Confirmation } from './confirmation.ts'
import type { Proofs, SentProof } from './dpop-proof.ts'
import { certificateBinding, isBoundToCertificate } from './mtls-constraint.ts'

export interface BindingNeeds {
  proofs: Proofs
  /** Whether the deployment gives out no token that whoever bears it may use. */
  boundTokensOnly: boolean
}

/** What a client shows of its keys. */
export interface ShownKeys {
  certificate?: ClientCertificate | undefined
  proof: SentProof
}

export type SenderConstraint = (shown: ShownKeys, client: Client) => Promise<Confirmation>

/**
 * A token is bound to one key (RFC 7800 §3.1), and which kind of key that is follows from what the client registered
 * (DP-14): to its certificate if it or the deployment wants that, else to the key of its proof if it sends one.
 */
export function createSenderConstraint({ proofs, boundTokensOnly }: BindingNeeds): SenderConstraint {
  return async ({ certificate, proof }, client) => {
    if (!isBoundToCertificate(client, boundTokensOnly)) return await dpopBinding(client, proof, proofs)
    if (proof.header === undefined) return { certificate: certificateBinding(certificate) }
    throw new OAuthError('invalid_request', "this client's tokens are bound to its certificate: send no DPoP proof")
  }
}

/** Other clients may send a proof whenever they like; tokens are bound then, too. */
async function dpopBinding({ metadata }: Client, proof: SentProof, proofs: Proofs): Promise<Confirmation> {
  if (proof.header !== undefined) return { dpopKey: await proofs.keyOf(proof) }
  if (metadata.dpop_bound_access_tokens !== true) return { dpopKey: undefined }
  throw new OAuthError('invalid_dpop_proof', "this client's tokens are bound to its DPoP key: send a proof")
}
