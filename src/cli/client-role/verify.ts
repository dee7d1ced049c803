/** Whether to believe an ID token, and, when it was pushed, what came with it (CIBA Core §10.3.1). */
import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify } from 'jose'
import { tokenHash } from '../../platform/jose/token-hash.ts'
import { Failure } from '../context/failure.ts'
import type { ProviderMetadata } from './provider.ts'
import type { Tokens } from './ring.ts'

export interface IdToken {
  header: { alg: string; kid?: string }
  claims: JWTPayload
}

/** Signed with a key the provider publishes. A secret both sides have would let each sign as the other. */
const asymmetric = /^(ES|RS|PS)(256|384|512)$|^EdDSA$|^Ed25519$/

export async function readIdToken(tokens: Tokens, metadata: ProviderMetadata, clientId: string): Promise<IdToken> {
  const { id_token_signing_alg_values_supported: supported = ['RS256'] } = metadata
  try {
    const { payload, protectedHeader } = await jwtVerify(
      tokens.id_token,
      createRemoteJWKSet(new URL(metadata.jwks_uri)),
      {
        issuer: metadata.issuer,
        audience: clientId,
        requiredClaims: ['sub', 'iat', 'exp'],
        algorithms: supported.filter((algorithm) => asymmetric.test(algorithm)),
        clockTolerance: 5,
      },
    )
    const { alg, kid } = protectedHeader
    return { header: { alg, ...(kid !== undefined && { kid }) }, claims: payload }
  } catch (error) {
    const why = error instanceof errors.JOSEError ? error.message : 'its keys cannot be fetched'
    throw new Failure(`The provider sent an ID token that cannot be believed: ${why}.`)
  }
}

/** In a push the ID token vouches for the other tokens and for the request they belong to. */
export function checkPushed(tokens: Tokens, { header, claims }: IdToken, authReqId: string): void {
  const wrong = [
    claims.at_hash === tokenHash(tokens.access_token, header.alg) ? [] : ['at_hash'],
    claims['urn:openid:params:jwt:claim:auth_req_id'] === authReqId ? [] : ['urn:openid:params:jwt:claim:auth_req_id'],
    tokens.refresh_token === undefined ||
    claims['urn:openid:params:jwt:claim:rt_hash'] === tokenHash(tokens.refresh_token, header.alg)
      ? []
      : ['urn:openid:params:jwt:claim:rt_hash'],
  ].flat()
  if (wrong.length > 0) {
    throw new Failure(
      `The ID token does not vouch for what was pushed with it: ${wrong.join(', ')} ${wrong.length > 1 ? 'are' : 'is'} wrong.`,
    )
  }
}
