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

/** Missing `claims` have valid values; `undefined` leaves a claim out. */
export function assertionOf(stage: Stage, clientId: string, options: AssertionOptions): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  const usual = { iss: clientId, sub: clientId, aud: stage.url, jti: newSecret(12), iat: now, exp: now + 60 }
  return new SignJWT({ ...usual, ...options.claims })
    .setProtectedHeader({ alg: 'ES256', ...options.header })
    .sign(options.key)
}

/** Signs a header and claims as they are, with ES256: `SignJWT` would write their JSON in its own way. */
export async function signedBytes(header: string, claims: string, { privateKey }: KeyHolder): Promise<string> {
  const input = [header, claims].map((part) => Buffer.from(part).toString('base64url')).join('.')
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, privateKey, Buffer.from(input))
  return `${input}.${Buffer.from(signature).toString('base64url')}`
}

export const asserted = (assertion: string) => ({
  client_assertion: assertion,
  client_assertion_type: ASSERTION_TYPE,
})

/** Both CIBA endpoints, as any client calls them: the second with a request that does not exist. */
export const cibaEndpoints = [
  { path: '/backchannel/authorize', form: { scope: 'openid', login_hint: 'ana' } },
  { path: '/oauth/token', form: { grant_type: CIBA, auth_req_id: 'unknown' } },
] as const

/** Returns whether the response, of either endpoint above, means that the assertion was accepted. */
export function isBelieved({ status, body }: Answer): boolean {
  return status === 200 || (status === 400 && body.error === 'invalid_grant')
}
