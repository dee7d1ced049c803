/** Sectors: clients of one sector get the same pairwise subject for a user (OpenID Connect Core §8.1, CIBA Core §4). */
import type { ClientMetadata } from './client-metadata.ts'

/**
 * Returns the host that identifies the sector of a client, or undefined if the client has no sector. It is the host of
 * `sector_identifier_uri`, if the client has one. If not, it is the host of `jwks_uri` for poll and ping, of the
 * notification endpoint for push, and of the first redirect URI for other clients.
 */
export function sectorOf(client: ClientMetadata): string | undefined {
  const address = client.sector_identifier_uri ?? standsFor(client)
  if (address === undefined) return undefined
  const { protocol, host } = new URL(address)
  // A private-use scheme or a loopback address belongs to no party, because any client could register the same address.
  // So it identifies no sector.
  const hasOwner = protocol === 'https:' || (protocol === 'http:' && client.application_type !== 'native')
  return hasOwner ? host : undefined
}

/**
 * Whether a client stays in its sector when only its delivery settings change. If the client has a
 * `sector_identifier_uri`, the list at this URL must contain an address of the client (`standsFor`). This check does
 * not fetch the list, so that address must not change.
 */
export function staysInSector(before: ClientMetadata, after: ClientMetadata): boolean {
  if (after.subject_type !== 'pairwise') return true
  return after.sector_identifier_uri === undefined
    ? sectorOf(before) === sectorOf(after)
    : standsFor(before) === standsFor(after)
}

/**
 * Returns the address that represents the client in its sector (CIBA Core §4). The list at `sector_identifier_uri` must
 * contain this address. If the client has no `sector_identifier_uri`, the host of this address identifies the sector.
 */
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
 * Whether a change would move a client to another sector. Such a change is not allowed. The client's open requests were
 * accepted with the keys and addresses of the old sector. After the change, the client could get subjects of the new
 * sector through these requests, although the new sector may belong to another party.
 */
export function leavesSector(before: ClientMetadata, after: ClientMetadata): boolean {
  return after.subject_type === 'pairwise' && sectorOf(before) !== sectorOf(after)
}

/** The error message for a change that would move a client to another sector. */
export const sectorStays = 'the sector of a client with pairwise subjects cannot change: register another client'

/** Whether the client proves with its keys that `jwks_uri` is its own (CIBA Core §4). */
export function usesItsKeys(client: ClientMetadata): boolean {
  return (
    client.backchannel_authentication_request_signing_alg !== undefined ||
    ['private_key_jwt', 'self_signed_tls_client_auth'].includes(client.token_endpoint_auth_method)
  )
}
