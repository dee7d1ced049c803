/**
 * Decides which key the tokens of a call are bound to. Used before a poll is counted or a request is accepted, so that a
 * failure has no other effect.
 */

import { OAuthError } from '../../platform/oauth-error.ts'
import type { ClientCertificate } from '../certificate/client-certificate.ts'
import type { Client } from '../client.ts'
import type { Confirmation } from './confirmation.ts'
import type { Proofs, SentProof } from './dpop-proof.ts'
import { certificateBinding, isBoundToCertificate } from './mtls-constraint.ts'

export interface BindingNeeds {
  proofs: Proofs
  /** Whether the deployment issues only tokens that are bound to a key, no bearer tokens. */
  boundTokensOnly: boolean
}

/** The keys that a client presents. */
export interface ShownKeys {
  certificate?: ClientCertificate | undefined
  proof: SentProof
}

export type SenderConstraint = (shown: ShownKeys, client: Client) => Promise<Confirmation>

/**
 * A token is bound to one key (RFC 7800 §3.1): to the certificate if the registration of the client or the deployment
 * requires it, otherwise to the key of the DPoP proof, if one is sent.
 */
export function createSenderConstraint({ proofs, boundTokensOnly }: BindingNeeds): SenderConstraint {
  return async ({ certificate, proof }, client) => {
    if (!isBoundToCertificate(client, boundTokensOnly)) return await dpopBinding(client, proof, proofs)
    if (proof.header === undefined) return { certificate: certificateBinding(certificate) }
    throw new OAuthError('invalid_request', "this client's tokens are bound to its certificate: send no DPoP proof")
  }
}

/** A client that is not registered for DPoP may send a proof too. Its tokens are then bound to the key of the proof. */
async function dpopBinding({ metadata }: Client, proof: SentProof, proofs: Proofs): Promise<Confirmation> {
  if (proof.header !== undefined) return { dpopKey: await proofs.keyOf(proof) }
  if (metadata.dpop_bound_access_tokens !== true) return { dpopKey: undefined }
  throw new OAuthError('invalid_dpop_proof', "this client's tokens are bound to its DPoP key: send a proof")
}
