/** Signed authentication requests (CIBA §7.1.1), valid and invalid. */
import { type CryptoKey, type JWTHeaderParameters, SignJWT } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import type { Stage } from './stage.ts'

export interface SignedRequestOptions {
  key: CryptoKey | Uint8Array
  header?: Partial<JWTHeaderParameters>
  claims?: Record<string, unknown>
}

/**
 * Returns a signed authentication request. Claims that `claims` does not contain have valid values. A claim that is
 * `undefined` is omitted.
 */
export function signedRequest(
  stage: Pick<Stage, 'clock' | 'url'>,
  clientId: string,
  { key, header, claims }: SignedRequestOptions,
): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  const usual = {
    iss: clientId,
    aud: stage.url,
    jti: newSecret(15),
    iat: now,
    nbf: now,
    exp: now + 300,
    scope: 'openid',
    login_hint: 'ana@example.com',
    binding_message: '1234',
  }
  return new SignJWT({ ...usual, ...claims }).setProtectedHeader({ alg: 'ES256', ...header }).sign(key)
}
