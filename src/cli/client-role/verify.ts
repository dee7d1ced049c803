/** Reads an ID token, and checks the claims that bind pushed tokens to it (CIBA Core §10.3.1). */
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import { tokenHash } from '../../platform/jose/token-hash.ts'
import { Failure } from '../context/failure.ts'
import type { Tokens } from './ring.ts'

export interface IdToken {
  header: { alg: string; kid?: string }
  claims: JWTPayload
}

/** Decodes the ID token of `tokens`. It must have been verified before: this function does not verify it. */
export function readIdToken({ id_token: token }: Tokens): IdToken {
  const { alg, kid } = decodeProtectedHeader(token)
  return { header: { alg: String(alg), ...(kid !== undefined && { kid }) }, claims: decodeJwt(token) }
}

/**
 * Checks the ID token of a push, which contains the `auth_req_id` and hashes of the other tokens (CIBA Core §10.3.1).
 * Throws if the `auth_req_id` or one of the hashes does not match.
 */
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
      `The ID token does not match the tokens that were pushed with it: ${wrong.join(', ')} ${wrong.length > 1 ? 'are' : 'is'} wrong.`,
    )
  }
}
