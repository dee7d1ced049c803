/** Which clients know a user by the same pairwise subject (CIBA Core §4, RG-8 – RG-12). */
import type { ClientMetadata } from './client-metadata.ts'

/**
 * The host that stands for all clients of one party: that of `sector_identifier_uri` if there is one; else, for who
 * polls or is pinged, of `jwks_uri`, for who is pushed to, of the notification endpoint, for others of their redirects.
 */
export function sectorOf(client: ClientMetadata): string | undefined {
  const address = client.sector_identifier_uri ?? standsFor(client)
  if (address === undefined) return undefined
  const { protocol, host } = new URL(address)
  // An app's own scheme, or the machine it runs on, is nobody's: anybody could say the same.
  const isSomebodys = protocol === 'https:' || (protocol === 'http:' && client.application_type !== 'native')
  return isSomebodys ? host : undefined
}

/**
 * Whether a client that changes only how it is told is still what was let into its sector: nobody asks the sector's list
 * then, as at registration.
 */
export function staysInSector(before: ClientMetadata, after: ClientMetadata): boolean {
  if (after.subject_type !== 'pairwise') return true
  return after.sector_identifier_uri === undefined
    ? sectorOf(before) === sectorOf(after)
    : standsFor(before) === standsFor(after)
}

/** The address that has to be in the list at `sector_identifier_uri` (RG-9), and without one is the sector. */
export function standsFor(client: ClientMetadata): string | undefined {
  switch (client.backchannel_token_delivery_mode) {
    case 'poll':
    case 'ping':
      return client.jwks_uri
    case 'push':
      return client.backchannel_client_notification_endpoint
    case undefined:
      return client.redirect_uris[0]
  }
}

/**
 * Whether a client that changes would be in another sector, which it must not. Requests that are open end as they began,
 * with other addresses and proofs: in the sector of somebody else it would hear what users are called there.
 */
export function leavesSector(before: ClientMetadata, after: ClientMetadata): boolean {
  return after.subject_type === 'pairwise' && sectorOf(before) !== sectorOf(after)
}

export const sectorStays = 'the sector of a client with pairwise subjects cannot change: register another client'

/** Whether the client proves with its keys that `jwks_uri` is its own (RG-12). */
export function usesItsKeys(client: ClientMetadata): boolean {
  return (
    client.backchannel_authentication_request_signing_alg !== undefined ||
    ['private_key_jwt', 'self_signed_tls_client_auth'].includes(client.token_endpoint_auth_method)
  )
}
