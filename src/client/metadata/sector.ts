/** Sectors: clients of one sector get the same pairwise subject for a user (OpenID Connect Core §8.1, CIBA Core §4). */
import type { ClientMetadata } from './client-metadata.ts'

/**
 * Returns the host that identifies the sector of a client: the host of `sector_identifier_uri`, if there is one. Otherwise
 * the host of `jwks_uri` for poll and ping, of the notification endpoint for push, and of the redirect URI for other
 * clients.
 */
export function sectorOf(client: ClientMetadata): string | undefined {
  const address = client.sector_identifier_uri ?? standsFor(client)
  if (address === undefined) return undefined
  const { protocol, host } = new URL(address)
  // A private-use scheme or a loopback address belongs to no party: any client could register the same.
  const isSomebodys = protocol === 'https:' || (protocol === 'http:' && client.application_type !== 'native')
  return isSomebodys ? host : undefined
}

/**
 * Whether a client stays in its sector if only its delivery settings change. Unlike registration, this does not fetch the
 * list at `sector_identifier_uri`.
 */
export function staysInSector(before: ClientMetadata, after: ClientMetadata): boolean {
  if (after.subject_type !== 'pairwise') return true
  return after.sector_identifier_uri === undefined
    ? sectorOf(before) === sectorOf(after)
    : standsFor(before) === standsFor(after)
}

/**
 * Returns the address that the list at `sector_identifier_uri` must contain. Without such a list, the host of this address
 * is the sector (CIBA Core §4).
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
 * Whether a change would move a client to another sector, which is not allowed: open requests keep the addresses and proofs
 * that they began with, so the client could learn the subjects of another party's sector.
 */
export function leavesSector(before: ClientMetadata, after: ClientMetadata): boolean {
  return after.subject_type === 'pairwise' && sectorOf(before) !== sectorOf(after)
}

export const sectorStays = 'the sector of a client with pairwise subjects cannot change: register another client'

/** Whether the client proves with its keys that `jwks_uri` is its own (CIBA Core §4). */
export function usesItsKeys(client: ClientMetadata): boolean {
  return (
    client.backchannel_authentication_request_signing_alg !== undefined ||
    ['private_key_jwt', 'self_signed_tls_client_auth'].includes(client.token_endpoint_auth_method)
  )
}
