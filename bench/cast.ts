/**
 * The clients and users of the benchmarks, which are the same at every server, and requests whose ids can be computed.
 */
import { createHash, type JsonWebKey } from 'node:crypto'

export const CIBA = 'urn:openid:params:grant-type:ciba'
export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** An https URL, although the servers use plain HTTP on this machine, as behind a proxy that terminates TLS. */
export const issuer = 'https://bench.example'

export const paths = {
  ring: '/backchannel/authorize',
  token: '/oauth/token',
  register: '/oauth/register',
  approve: '/bench/approve',
} as const

/** Lifetimes in seconds. They are the same at every server. */
export const lives = { request: 3600, access: 600, id: 3600 }

export type ClientId = 'till' | 'till-rs256' | 'till-jwt'

/** Returns the secret of a client: 43 characters, like any secret of 256 bits. */
export const secretOf = (clientId: string) => createHash('sha256').update(`secret of ${clientId}`).digest('base64url')

const grants = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' as const }

/**
 * Returns the RFC 7591 metadata of the clients. They get no refresh tokens, so that a flow ends with the same tokens at
 * every server.
 */
export function clients(assertionKey: JsonWebKey) {
  return [
    { ...grants, client_id: 'till', client_secret: secretOf('till'), id_token_signed_response_alg: 'ES256' as const },
    {
      ...grants,
      client_id: 'till-rs256',
      client_secret: secretOf('till-rs256'),
      id_token_signed_response_alg: 'RS256' as const,
    },
    {
      ...grants,
      client_id: 'till-jwt',
      token_endpoint_auth_method: 'private_key_jwt' as const,
      token_endpoint_auth_signing_alg: 'ES256' as const,
      id_token_signed_response_alg: 'ES256' as const,
      jwks: { keys: [{ ...assertionKey, kid: 'assertion', alg: 'ES256', use: 'sig' }] },
    },
  ]
}

/** Returns the `auth_req_id` of a request that `fill` adds, by the number of the request. */
export const authReqIdOf = (number: number) => createHash('sha256').update(`request ${number}`).digest('base64url')

/** Returns the id of a user. There is a user for every number. */
export const userOf = (number: number) => `user-${number}`
