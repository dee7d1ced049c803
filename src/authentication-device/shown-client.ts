import type { Client } from '../client/client.ts'
import { usesItsKeys } from '../client/metadata/sector.ts'

/** What a user may know of a client: a list of names, so that nothing gets in by itself (M28). */
export function showClient(clientId: string, client: Client | undefined) {
  return {
    client_id: clientId,
    client_name: client?.metadata.client_name,
    logo_uri: client?.metadata.logo_uri,
    policy_uri: client?.metadata.policy_uri,
    tos_uri: client?.metadata.tos_uri,
    ...selfRegistration(client),
  }
}

/** Hosts that are named; a client with more of them is known by the first ones. */
const mostHosts = 3

/**
 * Of a client that registered itself: that it did, and the hosts of the addresses that it is reached at. Others, redirects
 * of a client that rings or keys that it does not use, may be anybody's: it could name its victim there.
 */
export function selfRegistration(client: Client | undefined): { self_registered?: true; hosts?: string[] } {
  if (!client?.registeredItself) return {}
  const { jwks_uri, redirect_uris, backchannel_token_delivery_mode: mode } = client.metadata
  const keys = usesItsKeys(client.metadata) ? [jwks_uri] : []
  const addresses = mode === undefined ? [...keys, ...redirect_uris] : [client.notificationEndpoint, ...keys]
  const hosts = addresses.map((address) => URL.parse(address ?? '')?.hostname).filter((host) => host)
  return { self_registered: true, hosts: [...new Set(hosts as string[])].slice(0, mostHosts) }
}
