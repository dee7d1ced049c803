/** Client assertions, valid and invalid, and the clients that send them. */
import { type CryptoKey, exportJWK, generateKeyPair, type JWTHeaderParameters, SignJWT } from 'jose'
import type { ClientMetadataInput, PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { type Answer, CIBA, type Stage } from './stage.ts'

export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

export interface KeyHolder {
  privateKey: CryptoKey
  publicJwk: PublicJwk
}

export async function newKey(kid: string, alg = 'ES256'): Promise<KeyHolder> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg } as PublicJwk }
}

export function pollClient(id: string, more: Partial<ClientMetadataInput>): ClientMetadataInput {
  return { client_id: id, grant_types: [CIBA], backchannel_token_delivery_mode: 'poll', ...more }
}

export interface AssertionOptions {
  key: CryptoKey | Uint8Array
  header?: Partial<JWTHeaderParameters>
  claims?: Record<string, unknown>
}

/**
 * Returns a signed assertion. Claims that `claims` does not contain have valid values. A claim that is `undefined` is
 * omitted.
 */
export function assertionOf(stage: Stage, clientId: string, options: AssertionOptions): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  const usual = { iss: clientId, sub: clientId, aud: stage.url, jti: newSecret(12), iat: now, exp: now + 60 }
  return new SignJWT({ ...usual, ...options.claims })
    .setProtectedHeader({ alg: 'ES256', ...options.header })
    .sign(options.key)
}

/**
 * Signs a header and claims with ES256. Their JSON texts are signed unchanged, whereas `SignJWT` would serialize them
 * itself.
 */
export async function signedBytes(header: string, claims: string, { privateKey }: KeyHolder): Promise<string> {
  const input = [header, claims].map((part) => Buffer.from(part).toString('base64url')).join('.')
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, privateKey, Buffer.from(input))
  return `${input}.${Buffer.from(signature).toString('base64url')}`
}

export const asserted = (assertion: string) => ({
  client_assertion: assertion,
  client_assertion_type: ASSERTION_TYPE,
})

/** A call of each of the two CIBA endpoints. The token request contains an `auth_req_id` that does not exist. */
export const cibaEndpoints = [
  { path: '/backchannel/authorize', form: { scope: 'openid', login_hint: 'ana' } },
  { path: '/oauth/token', form: { grant_type: CIBA, auth_req_id: 'unknown' } },
] as const

/** Returns whether the response to a call of `cibaEndpoints` means that the assertion was accepted. */
export function isBelieved({ status, body }: Answer): boolean {
  return status === 200 || (status === 400 && body.error === 'invalid_grant')
}
